package proxy

import (
	"cmp"
	"slices"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/resilience/balance"
	"waypoint.dev/waypoint/routing"
)

// ExplainedBackend is one weighted backend of the rule that won.
type ExplainedBackend struct {
	Backend   string `json:"backend"`
	Weight    uint32 `json:"weight"`
	Available int    `json:"available"`         // endpoints that could be picked
	Invalid   string `json:"invalid,omitempty"` // why its share is answered with an error

	// What its own filters make of its share; empty where it has none.
	Filters  []string `json:"filters,omitempty"`
	Mirrors  []string `json:"mirrors,omitempty"` // beside those of the rule
	Upstream string   `json:"upstreamPath,omitempty"`
	Host     string   `json:"upstreamHost,omitempty"`
	Location string   `json:"location,omitempty"`

	Status int `json:"status,omitempty"` // what this waypoint answers its share itself; 0: forwarded
}

// backends tells of each backend of a rule what a draw of it would find.
func (t *tunnel) backends(chain *config.Chain, r *routing.Compiled) []ExplainedBackend {
	out := []ExplainedBackend{}
	for i := range r.Backends {
		b := &r.Backends[i]
		v := ExplainedBackend{Backend: "(missing)", Weight: b.Weight, Invalid: b.Invalid}
		if target := t.target(chain, b); target != nil {
			v = explained(target, b.Weight)
			v.Invalid = cmp.Or(b.Invalid, v.Invalid)
		}
		out = append(out, v)
	}
	return out
}

// asked is the name that a request or connection goes by.
func (t *tunnel) asked() string {
	if t.dry.in != nil {
		return t.dry.in.Authority
	}
	return t.conn.SNI
}

// idle reports whether a target has no endpoint for what Explain was asked. That
// nothing says which endpoints there are is noted.
func (t *tunnel) idle(target *config.Target) bool {
	spec, set := target.Spec.Load(), target.Set.Load()
	switch {
	case spec.Dynamic != nil:
		host, _, ok := splitAuthority(t.asked(), portHTTP)
		return !ok || !matchesHost(spec.Dynamic.Host, host)
	case set.Policy().Kind == balance.Passthrough || set.Available() > 0:
		return false
	case spec.Unlisted && t.assume:
		note := "endpoints of " + target.Key + ", which has no EndpointSlice"
		if !slices.Contains(t.dry.notAsked, note) {
			t.dry.notAsked = append(t.dry.notAsked, note)
		}
		return false
	}
	return true
}

func explained(t *config.Target, weight uint32) ExplainedBackend {
	return ExplainedBackend{Backend: t.Key, Weight: weight, Available: t.Set.Load().Available(), Invalid: t.Spec.Load().Missing}
}

// share tells what the request comes to if it is of b's share.
func (x *exchange) share(chain *config.Chain, e *ExplainedBackend, b *routing.CompiledBackend) {
	switch b.CORS.Check(&x.req) {
	case routing.CORSPreflight, routing.CORSRefused:
		e.Status = routing.CORSStatus
		return
	}
	switch {
	case e.Invalid != "":
		e.Status = x.statusOf(cmp.Or(b.Status, 503))
		return
	case b.Redirect != nil:
		e.Status = x.statusOf(b.Redirect.Code())
		e.Location = string(b.Redirect.AppendLocation(nil, &x.req, x.result.Prefix, x.t.conn.DestPort))
	case x.t.idle(x.t.target(chain, b)):
		e.Status = x.statusOf(failures[failNoHost].status)
	case b.Filters.Rewrite != nil:
		e.Host = b.Rewrite.Host
		e.Upstream = string(b.Rewrite.AppendTarget(nil, &x.req, x.result.Prefix))
	}
	e.Mirrors = mirrorKeys(chain, b.Filters.Mirrors)
	add := func(on bool, name string) {
		if on {
			e.Filters = append(e.Filters, name)
		}
	}
	add(b.Request != nil, "RequestHeaderModifier")
	add(b.Reply != nil, "ResponseHeaderModifier")
	add(b.Filters.Rewrite != nil, "URLRewrite")
	add(b.Redirect != nil, "RequestRedirect")
	add(len(b.Filters.Mirrors) > 0, "RequestMirror")
	add(b.Filters.CORS != nil, "CORS")
}

// statusOf is the status of an own answer: calls have theirs in grpc-status.
func (x *exchange) statusOf(status int) int {
	if x.grpc && !x.web {
		return 200
	}
	return status
}

func mirrorKeys(chain *config.Chain, ms []routing.Mirror) (out []string) {
	for _, m := range ms {
		if target := chain.Target(m.Ref); target != nil && m.Invalid == "" {
			out = append(out, target.Key)
		}
	}
	return out
}

func filters(r *routing.Compiled) (out []string) {
	add := func(on bool, name string) {
		if on {
			out = append(out, name)
		}
	}
	add(r.Request != nil, "RequestHeaderModifier")
	add(r.Reply != nil, "ResponseHeaderModifier")
	add(r.Rewrite != nil, "URLRewrite")
	add(r.Redirect != nil, "RequestRedirect")
	add(r.Direct != nil, "DirectResponse")
	add(len(r.Mirrors) > 0, "RequestMirror")
	add(r.CORS != nil, "CORS")
	add(r.Rule.Session >= 0, "SessionPersistence")
	return out
}
