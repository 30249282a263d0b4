package view

import (
	"cmp"
	"crypto/x509"
	"encoding/pem"
	"math"
	"slices"
	"time"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/identity"
	"waypoint.dev/waypoint/resilience"
	"waypoint.dev/waypoint/resilience/balance"
)

// Backend is one set of endpoints and how they do.
type Backend struct {
	Key       string     `json:"key"`
	Service   string     `json:"service,omitempty"`
	Protocol  string     `json:"protocol"`
	Missing   string     `json:"missing,omitempty"`
	Available int        `json:"available"`
	Endpoints []Endpoint `json:"endpoints"`
	Limits    *Limits    `json:"limits,omitempty"`
}

// Limits is what of a backend is in use, and how often a limit refused more.
type Limits struct {
	Connections Limit `json:"connections"`
	Pending     Limit `json:"pending"`
	Requests    Limit `json:"requests"`
	Retries     Limit `json:"retries"`
}

// Limit is one of them.
type Limit struct {
	InUse   int64  `json:"inUse"`
	Max     uint32 `json:"max,omitempty"` // 0: unlimited
	Refused uint64 `json:"refused"`
}

func limits(t *config.Target, s *resilience.Settings) *Limits {
	state, ok := t.State().(interface{ Usage() resilience.Usage })
	if !ok {
		return nil
	}
	u := state.Usage()
	return &Limits{
		Connections: Limit{u.Connections, known(s.MaxConnections), u.ConnectionsRefused}, Pending: Limit{u.Pending, known(s.MaxPending), u.PendingRefused},
		Requests: Limit{u.Requests, known(s.MaxRequests), u.RequestsRefused}, Retries: Limit{u.Retries, known(s.MaxRetries), u.RetriesRefused},
	}
}

// known is a maximum without Istio's word for none, 2^32-1.
func known(limit uint32) uint32 {
	if limit == math.MaxUint32 {
		return 0
	}
	return limit
}

// Endpoint is one place of a backend.
type Endpoint struct {
	Address  string `json:"address"`
	Tunnel   string `json:"tunnel,omitempty"`
	Identity string `json:"identity,omitempty"`
	Health   string `json:"health"`
	Ejected  bool   `json:"ejected,omitempty"`
	Active   int64  `json:"activeRequests"`
	Weight   uint32 `json:"weight,omitempty"`
	Priority uint32 `json:"priority,omitempty"`
}

// Backends lists all backends, by key.
func Backends(s *config.Snapshot) []Backend {
	out := []Backend{}
	s.Targets(func(t *config.Target) bool {
		spec, set := t.Spec.Load(), t.Set.Load()
		b := Backend{Key: t.Key, Service: spec.Service.Host, Protocol: Protocol(spec.Protocol), Missing: spec.Missing, Available: set.Available(), Endpoints: []Endpoint{}, Limits: limits(t, &spec.Settings)}
		for _, e := range set.Endpoints() {
			b.Endpoints = append(b.Endpoints, endpoint(e))
		}
		out = append(out, b)
		return true
	})
	slices.SortFunc(out, func(a, b Backend) int { return cmp.Compare(a.Key, b.Key) })
	return out
}

func endpoint(e *balance.Endpoint) Endpoint {
	v := Endpoint{Address: e.Hostname, Identity: e.Identity, Weight: e.Weight, Priority: e.Priority,
		Health: [...]string{"healthy", "unhealthy", "draining"}[e.Health]}
	if e.Addr.IsValid() {
		v.Address = e.Addr.String()
	}
	if e.Tunnel.IsValid() {
		v.Tunnel = e.Tunnel.String()
	}
	if e.Host != nil {
		v.Ejected, v.Active = e.Host.Ejected.Load(), e.Host.Active.Load()
	}
	return v
}

// Certificate is one certificate, without its key.
type Certificate struct {
	Identity   string    `json:"identity,omitempty"`
	Subject    string    `json:"subject,omitempty"`
	Serial     string    `json:"serial"`
	NotBefore  time.Time `json:"notBefore"`
	NotAfter   time.Time `json:"notAfter"`
	ValidHours int       `json:"remainingHours"`
}

// Identity is what the waypoint proves itself with, and whom it trusts.
type Identity struct {
	Chain        []Certificate `json:"chain"`
	Roots        []Certificate `json:"roots"`
	TrustDomains []string      `json:"trustDomains"`
}

// Certs describes a source's newest certificates. No key is read.
func Certs(src identity.Source) Identity {
	out := Identity{Chain: []Certificate{}, Roots: []Certificate{}}
	if s := src.SVID(); s != nil {
		for _, der := range s.Certificate.Certificate {
			if c, err := x509.ParseCertificate(der); err == nil {
				out.Chain = append(out.Chain, certificate(c))
			}
		}
	}
	if b := src.Bundle(); b != nil {
		out.TrustDomains = b.TrustDomains
		for rest := b.PEM; ; {
			var block *pem.Block
			if block, rest = pem.Decode(rest); block == nil {
				break
			}
			if c, err := x509.ParseCertificate(block.Bytes); err == nil {
				out.Roots = append(out.Roots, certificate(c))
			}
		}
	}
	return out
}

func certificate(c *x509.Certificate) Certificate {
	v := Certificate{Subject: c.Subject.String(), Serial: c.SerialNumber.Text(16), NotBefore: c.NotBefore, NotAfter: c.NotAfter,
		ValidHours: int(time.Until(c.NotAfter).Hours())}
	if len(c.URIs) > 0 {
		v.Identity = c.URIs[0].String()
	}
	return v
}
