package proxy

import (
	"crypto/rand"
	"slices"
	"time"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/internal/attrs"
	"waypoint.dev/waypoint/resilience/balance"
	sessions "waypoint.dev/waypoint/resilience/session"
	"waypoint.dev/waypoint/routing"
)

// sticky is what an exchange knows of its session (GEP-1619).
type sticky struct {
	spec  *sessions.Spec    // nil: the rule keeps no sessions
	token sessions.Token    // the one that the client brought
	good  bool              // token is ours and not over
	host  *balance.Endpoint // that token means; nil: none that can serve
}

// newKeeper makes a keeper of a secret that this process alone knows.
func newKeeper() *sessions.Keeper {
	var secret [32]byte
	_, _ = rand.Read(secret[:]) // never fails (crypto/rand)
	k, err := sessions.NewKeeper(secret[:])
	if err != nil {
		panic(err) // only for a secret that is too short
	}
	return k
}

// resume looks for the session of the request. When its endpoint still serves the
// rule it returns the endpoint's backend, of whatever weight: a backend of weight 0
// takes no new sessions but keeps the ones it has.
func (x *exchange) resume(rule *routing.Compiled) (*routing.CompiledBackend, *config.Target) {
	spec := x.chain.Session(rule.Rule.Session)
	if spec == nil {
		return nil, nil
	}
	x.sticky.spec = spec
	text := spec.Find(x.fields)
	if text == "" || x.p.sessions == nil {
		return nil, nil
	}
	token, err := x.p.sessions.Open(spec, text, x.now)
	if err != nil {
		return nil, nil // forged, of another key, or over: as if there were none
	}
	x.sticky.token, x.sticky.good = token, true
	for i := range rule.Backends {
		b := &rule.Backends[i]
		if b.Invalid != "" || b.Redirect != nil {
			continue
		}
		t := x.t.target(x.chain, b)
		if t == nil || sessions.Digest(t.Key) != token.Backend || t.Spec.Load().Missing != "" {
			continue
		}
		for _, ep := range t.Set.Load().Endpoints() {
			if sessions.Digest(ep.Key) == token.Endpoint && ep.Health == balance.Healthy && !ep.Host.Ejected.Load() {
				x.sticky.host = ep
				return b, t
			}
		}
	}
	return nil, nil
}

// pinned is the endpoint of the session, unless an attempt there has failed.
func (x *exchange) pinned() *balance.Endpoint {
	if ep := x.sticky.host; ep != nil && !slices.Contains(x.tried, ep) {
		return ep
	}
	return nil
}

// keepSession adds the token to a response when the client has none for the
// endpoint that answered, or one that is about to end.
func (x *exchange) keepSession(fs []attrs.Field) []attrs.Field {
	s := &x.sticky
	if s.spec == nil || len(x.tried) == 0 || x.p.sessions == nil {
		return fs
	}
	now := time.Now()
	backend, ep := x.target.Key, x.tried[len(x.tried)-1].Key
	token := sessions.New(backend, ep, now)
	if s.good && s.token.Of(backend, ep) {
		if !s.spec.Renew(s.token, now) {
			return fs
		}
		token = s.token.Again(now)
	}
	at := len(x.scratch)
	x.scratch = x.p.sessions.Seal(x.scratch, s.spec, token)
	if s.spec.Header {
		return setField(fs, s.spec.Name, view(x.scratch[at:]))
	}
	text := x.scratch[at:]
	at = len(x.scratch)
	x.scratch = s.spec.AppendCookie(x.scratch, text)
	return append(fs, attrs.Field{Name: "set-cookie", Value: view(x.scratch[at:])})
}
