package proxy

import (
	"math/rand/v2"
	"time"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/internal/attrs"
	"waypoint.dev/waypoint/resilience/balance"
	"waypoint.dev/waypoint/routing"
	"waypoint.dev/waypoint/telemetry"
)

// match finds the rule. No rule is a 404, as an Envoy without a route gives it.
func (x *exchange) match() bool {
	res, ok := x.chain.Table(x.t.conn.Peer.Namespace).Match(&x.req)
	if !ok {
		x.answer(reply{status: 404, flags: telemetry.FlagNR, details: "route_not_found"})
		return false
	}
	x.result = res
	if name := res.Rule.Name; name != "" {
		x.rec.Route = name
	}
	return true
}

// choose carries out what the rule and the backend it picks say, up to the choice of a
// target. An attempt that is repeated stays with that backend, so that the edits made
// for one never go to another.
func (x *exchange) choose() bool {
	rule := x.result.Rule
	switch {
	case rule.Broken != "":
		x.rec.Reason = "rule_broken"
		x.answer(reply{status: 500, details: "direct_response"})
		return false
	case rule.Redirect != nil:
		x.redirect(rule.Redirect)
		return false
	case rule.Direct != nil:
		x.answer(reply{status: rule.Direct.Status, body: rule.Direct.Body, fields: x.replyFields(), details: "direct_response"})
		return false
	case !x.pickBackend():
		x.answer(reply{status: 500, details: "direct_response"})
		return false
	case x.backend.Redirect != nil:
		x.redirect(x.backend.Redirect)
		return false
	}
	if x.backend.Invalid != "" || x.target == nil || x.target.Spec.Load().Missing != "" {
		status := x.backend.Status
		if status == 0 {
			status = 503
		}
		x.answer(reply{status: status, fields: x.replyFields(), flags: telemetry.FlagNC, details: "cluster_not_found"})
		return false
	}
	x.plan(rule.Rule)
	x.affinity(rule.Rule.Hash)
	x.edit()
	if len(x.backend.Mirrors) > 0 && !x.dry {
		x.mirror()
	}
	return true
}

// redirect answers with a Location, made of the request as the client sent it.
func (x *exchange) redirect(d *routing.Redirect) {
	at := len(x.scratch)
	x.scratch = d.AppendLocation(x.scratch, &x.req, x.result.Prefix, x.t.conn.DestPort)
	x.extra = append(x.extra, attrs.Field{Name: "location", Value: view(x.scratch[at:])})
	x.answer(reply{status: d.Code(), fields: x.replyFields(), details: "direct_response"})
}

// pickBackend picks the backend, once for the exchange: that of the client's session,
// else one by weight. It returns false if none has a weight.
func (x *exchange) pickBackend() bool {
	if x.backend != nil {
		return true
	}
	rule := x.result.Rule
	if x.backend, x.target = x.resume(rule); x.backend != nil {
		return true
	}
	if x.backend = x.t.draw(x.chain, rule); x.backend == nil {
		return false
	}
	x.target = x.t.target(x.chain, x.backend)
	return true
}

// draw picks a backend by weight. Explain, which has to say the same each time, gets
// one whose share is served, if there is one, rather than redirected or failed.
func (t *tunnel) draw(c *config.Chain, rule *routing.Compiled) *routing.CompiledBackend {
	if t.dry != nil {
		var idle *routing.CompiledBackend
		for i := range rule.Backends {
			b := &rule.Backends[i]
			if b.Weight == 0 || b.Invalid != "" || b.Redirect != nil {
				continue
			}
			target := t.target(c, b)
			switch {
			case target == nil || target.Spec.Load().Missing != "":
			case !t.idle(target):
				return b
			case idle == nil:
				idle = b
			}
		}
		if idle != nil {
			return idle
		}
	}
	return rule.Pick(rand.Uint64())
}

// affinity computes the hash by which the backend places requests, from what the
// rule says or else the backend, and the cookie that keeps it. A backend that does
// not hash has no use for either, so no cookie is made for it, as in Envoy.
func (x *exchange) affinity(rule int) {
	policy := x.target.Set.Load().Policy()
	sources := x.chain.Hash(rule)
	if sources == nil {
		sources = policy.Hash
	}
	if len(sources) == 0 || !policy.Kind.Hashing() {
		return
	}
	var cookie balance.NewCookie
	x.hash, cookie = balance.HashKey(sources, &x.req, rand.Uint64)
	if cookie.Needed() {
		at := len(x.scratch)
		x.scratch = cookie.Append(x.scratch)
		x.extra = append(x.extra, attrs.Field{Name: "set-cookie", Value: view(x.scratch[at:])})
	}
}

// plan notes timeouts and the retry policy.
func (x *exchange) plan(r *routing.Rule) {
	x.retry = x.chain.Retry(r.Retry)
	x.timeout, x.tryTimeout, x.idle = r.Timeout, r.TryTimeout, r.IdleTimeout
	if x.tryTimeout == 0 && x.retry != nil {
		x.tryTimeout = x.retry.TryTimeout
	}
	if x.timeout != 0 && x.tryTimeout >= x.timeout {
		x.tryTimeout = 0 // Envoy ignores a per-try timeout that cannot strike first
	}
	if x.grpc && x.known.grpcTimeout != "" {
		if n, ok := parseGRPCTimeout(x.known.grpcTimeout); ok {
			if d := time.Duration(max(n, 1)); x.timeout == 0 || d < x.timeout {
				x.timeout = d
			}
		}
	}
}

// expected is what a backend may assume an attempt to last (Envoy:
// FilterUtility::setTimeoutHeaders).
func (x *exchange) expected() time.Duration {
	if x.tryTimeout > 0 {
		return x.tryTimeout
	}
	return x.timeout
}
