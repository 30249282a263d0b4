package session

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"
)

// Token is the content of a session's token.
type Token struct {
	Started int64 // Unix seconds
	Seen    int64 // Unix seconds: when this token was made

	Backend, Endpoint uint64 // digests of their keys, see Digest
}

// Digest is how a token names a backend or an endpoint. 64 bits are enough to tell
// those of one rule apart; the token's own seal keeps a client from choosing them.
func Digest(key string) uint64 { return xxhash.Sum64String(key) }

// New returns the token of a session that starts now at an endpoint.
func New(backend, endpoint string, now time.Time) Token {
	n := now.Unix()
	return Token{Started: n, Seen: n, Backend: Digest(backend), Endpoint: Digest(endpoint)}
}

// Of reports whether the token means that endpoint of that backend.
func (t Token) Of(backend, endpoint string) bool {
	return t.Backend == Digest(backend) && t.Endpoint == Digest(endpoint)
}

const (
	tokenBytes = 32
	nonceBytes = 12                               // of AES-GCM
	overhead   = nonceBytes + 16                  // and its tag
	sealed     = tokenBytes + overhead            //
	textBytes  = (sealed*8 + 5) / 6               // unpadded base64
	minSecret  = 16                               // 128 bits
	label      = "waypoint session persistence 1" // separates the keys from other uses of a secret
)

// Why a token is not honoured.
var (
	ErrForged  = errors.New("the token was not made here for this rule")
	ErrExpired = errors.New("the session is over")
)

// Keeper makes and opens tokens. Use NewKeeper.
type Keeper struct {
	aeads []cipher.AEAD // the first one seals
	pool  sync.Pool     // *scratch
}

// scratch holds what passes through interfaces and would escape otherwise.
type scratch struct {
	plain [tokenBytes]byte
	box   [sealed]byte
	text  [textBytes]byte
	scope []byte
}

// NewKeeper returns a keeper of secrets of at least 16 random bytes. The first
// seals, all open, so that a secret can be replaced while sessions go on: replicas
// that share their secrets share their sessions.
//
// GCM with random nonces is safe for 2^32 tokens of a secret (NIST SP 800-38D
// section 8.3): change it before that.
func NewKeeper(secrets ...[]byte) (*Keeper, error) {
	k := &Keeper{}
	if len(secrets) == 0 {
		return nil, errors.New("session: no secret")
	}
	for _, s := range secrets {
		if len(s) < minSecret {
			return nil, errors.New("session: a secret needs at least 16 bytes")
		}
		key, err := hkdf.Key(sha256.New, s, nil, label, 32)
		if err != nil {
			return nil, err
		}
		block, err := aes.NewCipher(key)
		if err != nil {
			return nil, err
		}
		a, err := cipher.NewGCMWithRandomNonce(block)
		if err != nil {
			return nil, err
		}
		k.aeads = append(k.aeads, a)
	}
	k.pool.New = func() any { return new(scratch) }
	return k, nil
}

// Seal appends the text of a token for the rule of s.
func (k *Keeper) Seal(dst []byte, s *Spec, t Token) []byte {
	b := k.pool.Get().(*scratch)
	binary.BigEndian.PutUint64(b.plain[0:], uint64(t.Started))
	binary.BigEndian.PutUint64(b.plain[8:], uint64(t.Seen))
	binary.BigEndian.PutUint64(b.plain[16:], t.Backend)
	binary.BigEndian.PutUint64(b.plain[24:], t.Endpoint)
	b.scope = append(b.scope[:0], s.Scope...)
	out := k.aeads[0].Seal(b.box[:0], nil, b.plain[:], b.scope)
	dst = base64.RawURLEncoding.AppendEncode(dst, out)
	k.pool.Put(b)
	return dst
}

// Open reads the text of a token. An error means that the request has no session
// and is not to be refused for it.
func (k *Keeper) Open(s *Spec, text string, now time.Time) (Token, error) {
	if len(text) != textBytes {
		return Token{}, ErrForged
	}
	b := k.pool.Get().(*scratch)
	defer k.pool.Put(b)
	copy(b.text[:], text)
	if n, err := base64.RawURLEncoding.Strict().Decode(b.box[:], b.text[:]); err != nil || n != sealed {
		return Token{}, ErrForged
	}
	b.scope = append(b.scope[:0], s.Scope...)
	for _, a := range k.aeads {
		p, err := a.Open(b.plain[:0], nil, b.box[:], b.scope)
		if err != nil {
			continue
		}
		t := Token{
			Started: int64(binary.BigEndian.Uint64(p[0:])), Seen: int64(binary.BigEndian.Uint64(p[8:])),
			Backend: binary.BigEndian.Uint64(p[16:]), Endpoint: binary.BigEndian.Uint64(p[24:]),
		}
		if over(t.Started, s.Absolute, now) || over(t.Seen, s.Idle, now) {
			return Token{}, ErrExpired
		}
		return t, nil
	}
	return Token{}, ErrForged
}

// Again returns the token for a session that goes on: it started when t did.
func (t Token) Again(now time.Time) Token {
	t.Seen = now.Unix()
	return t
}

func over(since int64, limit time.Duration, now time.Time) bool {
	return limit > 0 && now.Sub(time.Unix(since, 0)) >= limit
}
