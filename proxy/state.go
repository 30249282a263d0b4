package proxy

import (
	"log/slog"
	"sync/atomic"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/identity"
	"waypoint.dev/waypoint/proxy/originate"
	"waypoint.dev/waypoint/resilience"
)

// backendState is what a backend's configuration changes leave alone: how much
// of it is in use, which of its hosts misbehave, whether its breaker is open.
type backendState struct {
	limits   resilience.Limits
	breaker  resilience.CircuitBreaker
	outliers *resilience.Detector
	circuit  func(from, to string)
	cluster  string // as istiod names it; empty where nobody keeps states
	waiting  waitList
	idle     atomic.Int64 // connections that nothing uses, which make room for others
	dynamic  dynamicSet
	origin   atomic.Pointer[originate.Origin] // nil: connections are as they come
}

func (v *BackendEvents) outlier(backend string, e resilience.Event) {
	what, n := "endpoint ejected", &v.Ejections
	switch {
	case e.Cause == resilience.CauseNone:
		what, n = "endpoint is back", &v.Returns
	case !e.Enforced:
		what, n = "endpoint would be ejected, but for the maximum ejection percent", &v.HeldIn
	}
	n.Add(1)
	if v.Log != nil {
		v.Log.Info(what, "backend", backend, "endpoint", e.Endpoint.Key, "cause", string(e.Cause), "for", e.For, "ejected", e.Ejected, "of", e.Of)
	}
}

func (v *BackendEvents) circuit(backend, from, to string) {
	if to == "open" {
		v.Opened.Add(1)
	}
	if v.Log != nil {
		v.Log.Info("circuit breaker", "backend", backend, "from", from, "to", to)
	}
}

// BackendState makes or updates the runtime state of a backend; it is the
// State hook of config.Env where nobody watches.
func BackendState(b *config.Backend, prev any) any { return new(BackendEvents).State(b, prev) }

// BackendEvents counts what outlier detection and circuit breakers do, over all
// backends. The zero value is ready; its counters only grow.
type BackendEvents struct {
	// Set before use.
	Log      *slog.Logger    // nil: none
	Identity identity.Source // the waypoint's own, for backends that ask for it by TLS; nil: none

	Ejections, HeldIn, Returns atomic.Uint64 // of endpoints; HeldIn: the maximum ejection percent refused it
	Opened                     atomic.Uint64 // circuit breakers
	Refused                    resilience.Refusals
}

// State is the State hook of config.Env.
func (v *BackendEvents) State(b *config.Backend, prev any) any {
	s, _ := prev.(*backendState)
	if s == nil {
		key := b.Key
		s = &backendState{
			outliers: resilience.NewDetector(func(e resilience.Event) { v.outlier(key, e) }),
			circuit:  func(from, to string) { v.circuit(key, from, to) },
			cluster:  clusterName(key, "http"),
		}
		s.limits.Join(&v.Refused)
	}
	s.origin.Store(originate.New(b, s.origin.Load(), v.Identity, v.Log))
	s.limits.Update(&b.Settings)
	s.waiting.wake(nil) // there may be more places
	s.breaker.Update(b.Settings.Breaker, s.circuit)
	s.outliers.Update(b.Settings.Outlier, b.Endpoints)
	return s
}

// unlimited serves targets that no hook gave a state: workloads, and tests.
var unlimited = &backendState{outliers: resilience.NewDetector(nil)}

func stateOf(t *config.Target) *backendState {
	if s, _ := t.State().(*backendState); s != nil {
		return s
	}
	if b := t.Spec.Load(); b.TLS != nil || b.ProxyProto != 0 || b.Dynamic != nil {
		return BackendState(b, nil).(*backendState) // never in the clear, though nobody keeps states
	}
	return unlimited
}

// Usage is a reading of the backend's limits, for the admin port.
func (s *backendState) Usage() resilience.Usage { return s.limits.Usage() }

// connectionGone gives the place of a connection back.
func (s *backendState) connectionGone() {
	s.limits.ReleaseConnection()
	s.waiting.wake(nil)
}
