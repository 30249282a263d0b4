package identity

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// CRL is a file of certificate revocation lists, followed as it changes.
type CRL struct {
	// Fixed after WatchCRL.
	name    string
	log     *slog.Logger
	changed func()
	stop    chan struct{}
	done    chan struct{}
	once    sync.Once

	// Owned by the polling goroutine.
	seen [sha256.Size]byte
	bad  string

	set atomic.Pointer[revocations]
}

// revocations are serial numbers by raw issuer name.
type revocations map[string]map[string]struct{}

var errNoCRL = errors.New("no X509 CRL block in it")

// WatchCRL reads PEM revocation lists from a file, and again when its content
// changes. A list counts for the certificates of its issuer's name; the file is
// mounted by the mesh's operator, beside the roots, and trusted as they are. A
// broken new file is logged and the last good one kept. A file that is not there yet
// revokes nothing: its ConfigMap is an optional mount, which may come later. changed,
// if not nil, is called after each change.
func WatchCRL(name string, log *slog.Logger, changed func()) (*CRL, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if changed == nil {
		changed = func() {}
	}
	c := &CRL{name: name, log: log, changed: changed, stop: make(chan struct{}), done: make(chan struct{})}
	c.set.Store(&revocations{})
	if _, err := c.load(); errors.Is(err, fs.ErrNotExist) {
		c.bad = err.Error() // no news to the poll
	} else if err != nil {
		return nil, err
	}
	go c.poll()
	return c, nil
}

// Revoked reports whether a list names cert. It is safe for concurrent use.
func (c *CRL) Revoked(cert *x509.Certificate) bool {
	_, ok := (*c.set.Load())[string(cert.RawIssuer)][cert.SerialNumber.Text(16)]
	return ok
}

// Close stops following the file.
func (c *CRL) Close() error {
	c.once.Do(func() { close(c.stop) })
	<-c.done
	return nil
}

func (c *CRL) poll() {
	defer close(c.done)
	t := time.NewTicker(pollInterval)
	defer t.Stop()
	for {
		select {
		case <-c.stop:
			return
		case <-t.C:
		}
		changed, err := c.load()
		switch {
		case err != nil && err.Error() != c.bad:
			c.bad = err.Error()
			c.log.Error("the revocation list is broken, the last good one stays in use", "error", err)
		case err == nil && changed:
			c.bad = ""
			c.log.Info("revocation list reloaded", "file", c.name)
			c.changed()
		case err == nil:
			c.bad = ""
		}
	}
}

func (c *CRL) load() (changed bool, err error) {
	b, err := readFile(c.name)
	if err != nil {
		return false, fmt.Errorf("identity: %w", err)
	}
	sum := sha256.Sum256(b)
	if sum == c.seen {
		return false, nil
	}
	set, err := parseCRL(b)
	if err != nil {
		return false, fmt.Errorf("identity: %s: %w", c.name, err)
	}
	c.seen = sum
	c.set.Store(&set)
	return true, nil
}

func parseCRL(b []byte) (revocations, error) {
	set := revocations{}
	n := 0
	for rest := b; ; n++ {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "X509 CRL" {
			return nil, fmt.Errorf("unexpected PEM block %q", block.Type)
		}
		l, err := x509.ParseRevocationList(block.Bytes)
		if err != nil {
			return nil, err
		}
		serials := set[string(l.RawIssuer)]
		if serials == nil {
			serials = map[string]struct{}{}
			set[string(l.RawIssuer)] = serials
		}
		for _, e := range l.RevokedCertificateEntries {
			serials[e.SerialNumber.Text(16)] = struct{}{}
		}
	}
	// An empty file is an empty list: a ConfigMap before the first revocation.
	if n == 0 && len(bytes.TrimSpace(b)) > 0 {
		return nil, errNoCRL
	}
	return set, nil
}
