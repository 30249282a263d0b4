package pki

import (
	"bytes"
	"crypto/tls"
	"errors"
	"sync"
)

// state is what both sources publish.
type state struct {
	mu      sync.Mutex
	cert    *tls.Certificate // guarded by mu
	roots   []byte           // guarded by mu
	changed chan struct{}    // guarded by mu
}

func (s *state) Certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cert == nil {
		return nil, errors.New("pki: no certificate yet")
	}
	return s.cert, nil
}

func (s *state) Roots() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.roots
}

func (s *state) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changed == nil {
		s.changed = make(chan struct{})
	}
	return s.changed
}

func (s *state) publish(cert *tls.Certificate, roots []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cert = cert
	if !bytes.Equal(s.roots, roots) {
		s.roots = roots
		if s.changed != nil {
			close(s.changed)
			s.changed = nil
		}
	}
}
