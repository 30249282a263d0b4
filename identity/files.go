package identity

import (
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"
)

// pollInterval is how often files are read again. A kubelet refreshes mounted
// secrets about once a minute, so a few seconds more are not felt.
const pollInterval = 5 * time.Second

// maxFile bounds a certificate, key or root file.
const maxFile = 4 << 20

// fileSource is a [Source] of three files.
type fileSource struct {
	Store

	// Fixed after FromFiles.
	cert, key, roots string
	log              *slog.Logger

	mu           sync.Mutex // serializes load
	trustDomains []string   // guarded by mu

	seen [sha256.Size]byte // guarded by mu: of the good content looked at last

	bad string // owned by the polling goroutine: the error logged last, empty when all is well

	stopOnce sync.Once
	stop     chan struct{}
	done     chan struct{}
}

// FromFiles reads a certificate chain, its key and the roots from PEM files, and
// again whenever their content changes. Content is compared, not time stamps, so
// the swapped symbolic links of a Kubernetes volume count and a mere touch does
// not. New files that are broken (unreadable, key and certificate of different
// pairs, expired) are logged and the last good ones kept.
//
// Without trustDomains the certificate's own domain is the only one trusted.
func FromFiles(cert, key, roots string, trustDomains []string, log *slog.Logger) (Source, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &fileSource{
		cert: cert, key: key, roots: roots, trustDomains: trustDomains, log: log,
		stop: make(chan struct{}), done: make(chan struct{}),
	}
	if _, err := s.load(); err != nil {
		return nil, err
	}
	go s.poll()
	return s, nil
}

func (s *fileSource) poll() {
	defer close(s.done)
	t := time.NewTicker(pollInterval)
	defer t.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-t.C:
		}
		changed, err := s.load()
		switch {
		case err != nil:
			if msg := err.Error(); msg != s.bad {
				s.bad = msg
				s.log.Error("identity files are broken, the last good ones stay in use", "error", err, "notAfter", s.SVID().NotAfter)
			}
		case s.bad != "" && !changed:
			s.bad = ""
			s.log.Info("identity files are whole again")
		case changed:
			s.bad = ""
			v := s.SVID()
			s.log.Info("identity files reloaded", "identity", v.Principal.URI, "notAfter", v.NotAfter)
		}
	}
}

// SetTrustDomains replaces the trust domains, the mesh's own first, as the
// control plane tells of aliases.
func (s *fileSource) SetTrustDomains(domains []string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.Equal(s.trustDomains, domains) {
		return nil
	}
	b, err := NewBundle(s.Bundle().PEM, domains)
	if err != nil {
		return err
	}
	s.trustDomains = slices.Clone(domains)
	s.Set(nil, b)
	return nil
}

// load reads the files and publishes them if they changed.
func (s *fileSource) load() (changed bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var data [3][]byte
	h := sha256.New()
	for i, name := range []string{s.cert, s.key, s.roots} {
		if data[i], err = readFile(name); err != nil {
			s.seen = [sha256.Size]byte{} // whatever comes back is looked at
			return false, fmt.Errorf("identity: %w", err)
		}
		fmt.Fprintf(h, "%d\n", len(data[i]))
		h.Write(data[i])
	}
	sum := [sha256.Size]byte(h.Sum(nil))
	if sum == s.seen {
		return false, nil
	}
	// Remembered only when good: a broken set may have been read in the middle
	// of a swap.
	svid, bundle, err := s.build(data)
	if err != nil {
		return false, err
	}
	s.seen = sum
	s.Set(svid, bundle)
	return true, nil
}

func (s *fileSource) build(data [3][]byte) (*SVID, *Bundle, error) {
	pair, err := tls.X509KeyPair(data[0], data[1])
	if err != nil {
		return nil, nil, fmt.Errorf("identity: %s and %s: %w", s.cert, s.key, err)
	}
	svid, err := NewSVID(pair)
	if err != nil {
		return nil, nil, fmt.Errorf("identity: %s: %w", s.cert, err)
	}
	if now := time.Now(); now.After(svid.NotAfter) {
		return nil, nil, fmt.Errorf("identity: %s: expired at %s", s.cert, svid.NotAfter.Format(time.RFC3339))
	}
	domains := s.trustDomains
	if len(domains) == 0 {
		domains = []string{svid.Principal.TrustDomain}
	}
	bundle, err := NewBundle(data[2], domains)
	if err != nil {
		return nil, nil, fmt.Errorf("identity: %s: %w", s.roots, err)
	}
	return svid, bundle, nil
}

func readFile(name string) ([]byte, error) {
	fi, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if fi.Size() > maxFile {
		return nil, &os.PathError{Op: "read", Path: name, Err: errors.New("file is too large")}
	}
	return os.ReadFile(name)
}

// Close implements [Source].
func (s *fileSource) Close() error {
	s.stopOnce.Do(func() { close(s.stop) })
	<-s.done
	return nil
}
