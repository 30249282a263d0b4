package jwt

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"
)

// HTTPClient fetches keys; *http.Client is one. It should not follow redirects to
// other schemes than http and https.
type HTTPClient interface {
	Do(*http.Request) (*http.Response, error)
}

const (
	maxDocument = 1 << 20          // bytes of a fetched document
	minInterval = 10 * time.Second // between fetches that unknown key ids ask for
	firstRetry  = time.Second      // after a failed fetch, doubling to maxRetry
	maxRetry    = time.Minute
)

// KeyStore fetches remote keys in the background. Authenticators with the same
// settings share one source, which ends with the last of them.
type KeyStore struct {
	client HTTPClient // fixed after NewKeyStore, as the next two
	log    *slog.Logger
	wg     sync.WaitGroup

	mu      sync.Mutex
	sources map[sourceID]*source // guarded by mu
	closed  bool                 // guarded by mu
}

// sourceID is what two providers must have in common to share fetched keys.
type sourceID struct {
	url              string
	discover         bool // url is an issuer
	timeout, refresh time.Duration
}

// NewKeyStore makes a store that fetches with client. log may be nil.
func NewKeyStore(client HTTPClient, log *slog.Logger) *KeyStore {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &KeyStore{client: client, log: log, sources: map[sourceID]*source{}}
}

// Close stops all fetching. Keys that were fetched stay usable.
func (s *KeyStore) Close() {
	s.mu.Lock()
	s.closed = true
	for _, src := range s.sources {
		src.stop()
	}
	clear(s.sources)
	s.mu.Unlock()
	s.wg.Wait()
}

func (s *KeyStore) acquire(id sourceID) *source {
	s.mu.Lock()
	defer s.mu.Unlock()
	if src := s.sources[id]; src != nil {
		src.refs++
		return src
	}
	ctx, cancel := context.WithCancel(context.Background())
	src := &source{id: id, store: s, stop: cancel, refs: 1, kick: make(chan struct{}, 1), attempt: make(chan struct{})}
	src.breaker = gobreaker.NewCircuitBreaker[*keySet](gobreaker.Settings{
		Name:    id.url,
		Timeout: 30 * time.Second,
		ReadyToTrip: func(c gobreaker.Counts) bool {
			return c.ConsecutiveFailures >= 5
		},
	})
	if s.closed {
		cancel()
		src.finish()
		return src
	}
	s.sources[id] = src
	s.wg.Go(func() { src.run(ctx) })
	return src
}

func (s *KeyStore) release(src *source) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if src.refs--; src.refs == 0 && s.sources[src.id] == src {
		delete(s.sources, src.id)
		src.stop()
	}
}

// source is one remote key set.
type source struct {
	id      sourceID // fixed, as the next three
	store   *KeyStore
	stop    context.CancelFunc
	breaker *gobreaker.CircuitBreaker[*keySet]
	refs    int // guarded by store.mu

	keys atomic.Pointer[keySet] // last good; nil before the first
	kick chan struct{}          // asks for an early fetch

	mu      sync.Mutex
	attempt chan struct{} // guarded by mu; closed when the fetch under way, or next, ends
	tried   bool          // guarded by mu; a fetch has ended
	last    time.Time     // guarded by mu; when it did
	done    bool          // guarded by mu; no more fetches
}

// run owns the fetching.
func (s *source) run(ctx context.Context) {
	defer s.finish()
	retry := firstRetry
	for {
		keys, err := s.breaker.Execute(func() (*keySet, error) { return s.fetch(ctx) })
		if ctx.Err() != nil {
			return
		}
		wait := s.id.refresh - time.Duration(rand.Int64N(int64(s.id.refresh/10)+1)) // replicas spread
		if err != nil {
			s.store.log.Warn("JWKS fetch failed; the last good keys stay", "url", s.id.url, "have_keys", s.keys.Load() != nil, "error", err)
			wait = min(retry, s.id.refresh)
			retry = min(2*retry, maxRetry)
		} else {
			retry = firstRetry
			// The same document keeps its set, and with it the cached tokens.
			if old := s.keys.Load(); old == nil || old.sum != keys.sum {
				s.keys.Store(keys)
			}
		}
		s.ended()
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-s.kick:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// ended wakes who waits for the attempt.
func (s *source) ended() {
	s.mu.Lock()
	close(s.attempt)
	s.attempt, s.tried, s.last = make(chan struct{}), true, time.Now()
	s.mu.Unlock()
}

func (s *source) finish() {
	s.mu.Lock()
	if !s.done {
		s.done, s.tried = true, true
		close(s.attempt)
	}
	s.mu.Unlock()
}

// first returns the keys, waiting for the first fetch if it has not ended yet.
// It returns nil if there are none.
func (s *source) first(ctx context.Context) *keySet {
	if k := s.keys.Load(); k != nil {
		return k
	}
	s.mu.Lock()
	attempt, tried := s.attempt, s.tried
	s.mu.Unlock()
	if !tried {
		s.await(ctx, attempt)
	}
	return s.keys.Load()
}

// newer asks for a fetch, since old lacks a key, and waits for it. It returns old
// if there was a fetch a short while ago: unknown key ids are cheap to make up.
func (s *source) newer(ctx context.Context, old *keySet) *keySet {
	if k := s.keys.Load(); k != old {
		return k
	}
	s.mu.Lock()
	attempt, early := s.attempt, !s.done && time.Since(s.last) >= minInterval
	s.mu.Unlock()
	if early {
		select {
		case s.kick <- struct{}{}:
		default:
		}
		s.await(ctx, attempt)
	}
	return s.keys.Load()
}

func (s *source) await(ctx context.Context, attempt <-chan struct{}) {
	timer := time.NewTimer(s.id.timeout)
	defer timer.Stop()
	select {
	case <-attempt:
	case <-ctx.Done():
	case <-timer.C:
	}
}

func (s *source) fetch(ctx context.Context) (*keySet, error) {
	ctx, cancel := context.WithTimeout(ctx, s.id.timeout)
	defer cancel()
	url := s.id.url
	if s.id.discover {
		doc, err := s.get(ctx, strings.TrimSuffix(url, "/")+"/.well-known/openid-configuration")
		if err != nil {
			return nil, fmt.Errorf("discovery: %w", err)
		}
		var meta struct {
			JWKSURI string `json:"jwks_uri"`
		}
		if err := json.Unmarshal(doc, &meta); err != nil {
			return nil, fmt.Errorf("discovery: %w", err)
		}
		if url = meta.JWKSURI; !httpURL(url) {
			return nil, fmt.Errorf("discovery: jwks_uri %q is not an http or https URL", url)
		}
	}
	doc, err := s.get(ctx, url)
	if err != nil {
		return nil, err
	}
	ks, err := parseKeys(doc, false)
	if err == nil && len(ks.keys) == 0 {
		err = errors.New("key set has no usable key")
	}
	return ks, err
}

func (s *source) get(ctx context.Context, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := s.store.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: status %d", url, resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxDocument+1))
	if err == nil && len(body) > maxDocument {
		err = fmt.Errorf("%s: document is larger than %d bytes", url, maxDocument)
	}
	return body, err
}
