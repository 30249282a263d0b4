package spiffeapi

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"

	"waypoint.dev/waypoint/identity"
)

// Source is an identity.Source fed by a Workload API.
type Source struct {
	identity.Store

	// Fixed after New.
	log    *slog.Logger
	client *workloadapi.Client
	cancel context.CancelFunc
	done   chan struct{}
	first  chan struct{} // closed with the first identity

	mu      sync.Mutex
	domains []string                 // guarded by mu: trust domains, the mesh's own first
	last    *workloadapi.X509Context // guarded by mu
}

// New connects to the unix socket at path and returns with the first identity;
// ctx bounds the wait for it.
func New(ctx context.Context, path string, trustDomains []string, log *slog.Logger) (*Source, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	client, err := workloadapi.New(ctx, workloadapi.WithAddr("unix://"+path))
	if err != nil {
		return nil, fmt.Errorf("spiffeapi: %w", err)
	}
	run, cancel := context.WithCancel(context.Background())
	s := &Source{log: log, client: client, cancel: cancel, done: make(chan struct{}), first: make(chan struct{}), domains: slices.Clone(trustDomains)}
	go func() {
		defer close(s.done)
		// It returns only when run ends, or when the API refuses the request itself.
		if err := client.WatchX509Context(run, s); run.Err() == nil {
			log.Error("the Workload API refused to serve this process; the present identity stays in use", "error", err)
		}
	}()
	select {
	case <-s.first:
		return s, nil
	case <-s.done:
		s.Close()
		return nil, errors.New("spiffeapi: the Workload API refused to serve this process (is it registered?)")
	case <-ctx.Done():
		s.Close()
		return nil, fmt.Errorf("spiffeapi: no identity from the Workload API at %s: %w", path, ctx.Err())
	}
}

// OnX509ContextUpdate implements workloadapi.X509ContextWatcher.
func (s *Source) OnX509ContextUpdate(c *workloadapi.X509Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	svid, bundle, err := s.convert(c)
	if err != nil {
		s.log.Error("the Workload API's answer is unusable; the present identity stays in use", "error", err)
		return
	}
	s.last = c
	s.Set(svid, bundle)
	s.log.Info("certificate", "identity", svid.Principal.URI, "ends", svid.NotAfter)
	select {
	case <-s.first:
	default:
		close(s.first)
	}
}

// OnX509ContextWatchError implements workloadapi.X509ContextWatcher.
func (s *Source) OnX509ContextWatchError(err error) {
	s.log.Warn("the Workload API does not answer; asking again", "error", err)
}

// SetTrustDomains replaces the trust domains. The roots of each that the API
// knows are trusted.
func (s *Source) SetTrustDomains(domains []string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.Equal(s.domains, domains) {
		return nil
	}
	old := s.domains
	s.domains = slices.Clone(domains)
	_, bundle, err := s.convert(s.last)
	if err != nil {
		s.domains = old
		return err
	}
	s.Set(nil, bundle)
	return nil
}

// Close implements identity.Source.
func (s *Source) Close() error {
	s.cancel()
	<-s.done
	return s.client.Close()
}

// convert is called with mu held.
func (s *Source) convert(c *workloadapi.X509Context) (*identity.SVID, *identity.Bundle, error) {
	if len(c.SVIDs) == 0 {
		return nil, nil, errors.New("spiffeapi: no SVID")
	}
	// The first one is the default identity (SPIFFE Workload API 4.4).
	def := c.DefaultSVID()
	pair := tls.Certificate{PrivateKey: def.PrivateKey}
	for _, cert := range def.Certificates {
		pair.Certificate = append(pair.Certificate, cert.Raw)
	}
	svid, err := identity.NewSVID(pair)
	if err != nil {
		return nil, nil, fmt.Errorf("spiffeapi: %w", err)
	}
	domains := s.domains
	if len(domains) == 0 {
		domains = []string{svid.Principal.TrustDomain}
	}
	var roots bytes.Buffer
	var have []*x509.Certificate
	for _, d := range domains {
		td, err := spiffeid.TrustDomainFromString(d)
		if err != nil {
			return nil, nil, fmt.Errorf("spiffeapi: trust domain %q: %w", d, err)
		}
		b, ok := c.Bundles.Get(td)
		if !ok {
			continue // an alias need not be federated
		}
		for _, a := range b.X509Authorities() {
			if !slices.ContainsFunc(have, a.Equal) {
				have = append(have, a)
				pem.Encode(&roots, &pem.Block{Type: "CERTIFICATE", Bytes: a.Raw})
			}
		}
	}
	bundle, err := identity.NewBundle(roots.Bytes(), domains)
	if err != nil {
		return nil, nil, fmt.Errorf("spiffeapi: %w", err)
	}
	return svid, bundle, nil
}
