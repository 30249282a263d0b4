package stages

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"reflect"
	"sync"

	"waypoint.dev/waypoint/authz/extauthz"
	"waypoint.dev/waypoint/authz/jwt"
	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/hbone"
	"waypoint.dev/waypoint/proxy"
	"waypoint.dev/waypoint/proxy/originate"
	"waypoint.dev/waypoint/resilience"
)

// Options of a Stages. Store is required.
type Options struct {
	Store  *config.Store // whose backends key servers and providers may be
	Dialer proxy.Dialer  // opens tunnels; nil: what needs one cannot be reached

	// Keys fetches JWKS documents; nil: a client of its own that reaches backends
	// of the mesh through tunnels and everything else directly, with the system's
	// roots.
	Keys jwt.HTTPClient

	Roots *x509.CertPool // of https key servers without TLS settings of their own; nil: the system's

	Guard hbone.Guard  // what a name outside of the mesh may not resolve to
	Names *proxy.Names // what names outside of the mesh resolve to, shared; nil: its own
	Log   *slog.Logger // nil: discards
}

// Stages compiles the stages of all destinations of a process. Close it.
type Stages struct {
	// fixed after New
	mesh  *mesh
	log   *slog.Logger
	keys  *jwt.KeyStore
	fetch *fetcher // nil when the options brought a client

	mu        sync.Mutex
	verifiers map[*verifier]int    // guarded by mu: how many swaps since it was made
	clients   map[string]*provider // guarded by mu: by their settings
}

// New makes a Stages. It starts nothing until something is compiled.
func New(o Options) *Stages {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Stages{
		mesh: newMesh(o), log: o.Log,
		verifiers: make(map[*verifier]int), clients: make(map[string]*provider),
	}
	if o.Keys == nil {
		s.fetch = newFetcher(s.mesh)
		o.Keys = s.fetch
	}
	s.keys = jwt.NewKeyStore(o.Keys, o.Log)
	return s
}

// Close ends all fetching and all connections. Requests under way that need them
// fail closed.
func (s *Stages) Close() {
	s.keys.Close()
	if s.fetch != nil {
		s.fetch.close()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.clients {
		p.retire()
	}
	clear(s.clients)
	for v := range s.verifiers {
		v.auth.Close()
	}
	clear(s.verifiers)
	s.mesh.close()
}

// Compile is the Stage hook of config.Env. An unchanged stage returns prev, with
// its cached tokens, its connections and its buckets.
func (s *Stages) Compile(_ *config.Destination, st *config.Stage, prev any) (any, error) {
	switch st.Kind {
	case config.StageJWT:
		c, ok := st.Spec.(*jwt.Config)
		if !ok {
			return nil, unknown(st)
		}
		if v, ok := prev.(*verifier); ok && reflect.DeepEqual(v.config, c) {
			return v, nil
		}
		return s.verifier(c)
	case config.StageCustom:
		switch c := st.Spec.(type) {
		case *extauthz.Config:
			return s.authorizer([]*extauthz.Config{c}, prev)
		case []*extauthz.Config:
			return s.authorizer(c, prev)
		}
		return nil, unknown(st)
	case config.StageRateLimit:
		r, ok := st.Spec.(*resilience.RateLimit)
		if !ok {
			return nil, unknown(st)
		}
		if l, ok := prev.(*limiter); ok && reflect.DeepEqual(l.spec, r) {
			return l, nil
		}
		return newLimiter(r), nil
	}
	return nil, nil // the others run by what stands in the chain
}

// DialBackend connects to a backend of the snapshot that serves, by its key, else to
// the host and port that the key names: for what reports to collectors. h2 says
// which protocol to offer where the backend asks for TLS.
func (s *Stages) DialBackend(ctx context.Context, key string, h2 bool) (net.Conn, error) {
	return s.mesh.dialBackend(ctx, key, originate.HTTP(h2))
}

func unknown(st *config.Stage) error {
	return fmt.Errorf("settings of type %T are not known", st.Spec)
}

// Watch closes what the snapshots of the store use no longer, until stop is called.
func (s *Stages) Watch(store *config.Store) (stop func()) {
	return store.Watch(func(_, n *config.Snapshot) { s.sweep(n) })
}

// sweep closes verifiers and clients that n does not use. What was made since the
// last sweep may belong to the next snapshot and stays.
func (s *Stages) sweep(n *config.Snapshot) {
	s.mesh.serves()
	used := make(map[any]bool)
	for _, c := range n.Chains() {
		for i := range c.Stages {
			switch r := c.Stages[i].Run.(type) {
			case *verifier:
				used[r] = true
			case *authorizer:
				for _, p := range r.providers {
					used[p] = true
				}
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for v, age := range s.verifiers {
		if s.verifiers[v] = age + 1; age > 0 && !used[v] {
			v.auth.Close()
			delete(s.verifiers, v)
		}
	}
	for key, p := range s.clients {
		if p.age++; p.age > 1 && !used[p] {
			p.retire()
			delete(s.clients, key)
		}
	}
}
