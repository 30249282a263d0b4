package proxy

import (
	"math/rand/v2"
	"net/netip"
	"strings"
	"time"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/internal/attrs"
	"waypoint.dev/waypoint/proxy/codec"
	"waypoint.dev/waypoint/resilience/balance"
	"waypoint.dev/waypoint/routing"
	"waypoint.dev/waypoint/telemetry"
)

// serve takes the request through the waypoint: it always answers or aborts.
func (x *exchange) serve() {
	if x.decide() && x.holds() {
		x.forward()
	}
}

// holds asks the policies again if they changed while the request waited for a
// stage, such as an external authorizer.
func (x *exchange) holds() bool {
	if !x.overtaken() {
		return true
	}
	t := x.t
	c := x.p.opts.Store.Load().Lookup(t.conn.Dest, t.conn.DestHost, t.conn.DestPort)
	if c == nil {
		return true // as for a request that is under way: nothing is left that could deny
	}
	d := x.requestDenial(c)
	if d == nil {
		return true
	}
	x.decided(*d)
	x.denied(*d)
	return false
}

// decide finds out what is to be done with the request. It reports whether the
// request goes upstream; otherwise it is answered. The snapshot is not
// referred to any more when it returns.
func (x *exchange) decide() bool {
	x.describe()
	t := x.t
	x.asked = x.p.changes.Load() // before the snapshot: a change in between is noticed later
	x.chain = x.p.opts.Store.Load().Lookup(t.conn.Dest, t.conn.DestHost, t.conn.DestPort)
	if x.chain == nil {
		// The destination vanished under an open tunnel.
		x.answer(reply{status: 404, flags: telemetry.FlagNR, details: "route_not_found"})
		return false
	}
	x.rec.Service = t.serviceOf(x.chain)
	ok := x.prepare() && x.room() && x.usable() && x.stages() && x.choose()
	x.chain = nil
	return ok
}

// describe fills what the record says of the request, as the client sent it.
func (x *exchange) describe() {
	in, r := x.in, &x.rec
	r.Method, r.Path, r.Authority = in.Method, in.Target, in.Authority
	switch in.Version {
	case codec.HTTP2:
		r.Version = "HTTP/2"
	case codec.HTTP10:
		r.Version = "HTTP/1.0"
	default:
		r.Version = "HTTP/1.1"
	}
	r.Route = "default"
}

// prepare builds the request that policies see: sanitized fields, normalized
// path, the headers that Envoy adds before its filters run.
func (x *exchange) prepare() bool {
	in, set := x.in, &x.chain.Spec.Settings
	x.fields = sanitize(x.fields[:0], in.Fields, &x.known)
	k := &x.known
	x.grpc = k.grpc
	x.rec.UserAgent, x.rec.Forwarded, x.rec.RequestID = k.userAgent, k.forwarded, k.requestID
	if k.requestID == "" {
		at := len(x.scratch)
		x.scratch = appendUUID(x.scratch)
		x.rec.RequestID = view(x.scratch[at:])
		x.fields = append(x.fields, attrs.Field{Name: "x-request-id", Value: x.rec.RequestID})
	}
	if k.proto == "" {
		x.fields = append(x.fields, attrs.Field{Name: "x-forwarded-proto", Value: "http"})
	}
	x.req = attrs.Request{
		Conn:      &x.t.conn,
		Method:    in.Method,
		Scheme:    schemeOf(k.proto, in),
		Authority: in.Authority,
		Remote:    x.remote(),
		GRPC:      k.grpc,
		HTTP2:     in.Version == codec.HTTP2,
	}
	x.keepServer = set.KeepServer
	if set.XFCC {
		x.fields = append(x.fields, attrs.Field{Name: "x-forwarded-client-cert", Value: x.t.xfcc()})
	}
	if set.XFF && x.t.conn.Source.IsValid() {
		x.appendForwarded()
	}
	x.trace()
	x.req.Headers = x.fields
	if in.Method == "CONNECT" {
		// An inner CONNECT is an upgrade that no route allows (Envoy: upgrade_failed).
		x.answer(reply{status: 403, details: "upgrade_failed"})
		return false
	}
	return x.normalize(set.Normalization)
}

// schemeOf is the scheme of the request: what an HTTP/2 client says, else what a
// proxy in front says of it, else http, which is what comes out of a tunnel.
func schemeOf(proto string, in *codec.RequestHead) string {
	if in.Version == codec.HTTP2 {
		proto = in.Scheme
	}
	if strings.EqualFold(proto, "https") {
		return "https"
	}
	return "http"
}

// remote is the address that policies know as remote.ip: without
// use_remote_address, Envoy takes the last entry of x-forwarded-for.
func (x *exchange) remote() netip.Addr {
	if x.known.forwarded != "" {
		if a, err := netip.ParseAddr(lastHop(x.known.forwarded)); err == nil {
			return a.Unmap()
		}
	}
	return x.t.conn.Source.Addr()
}

// appendForwarded adds the client pod to x-forwarded-for.
func (x *exchange) appendForwarded() {
	at := len(x.scratch)
	if v := x.known.forwarded; v != "" {
		x.scratch = append(append(x.scratch, v...), ',')
	}
	x.scratch = x.t.conn.Source.Addr().AppendTo(x.scratch)
	v := view(x.scratch[at:])
	// Several lines are one list (RFC 9110 section 5.3): only the last is longer.
	for i := len(x.fields) - 1; i >= 0; i-- {
		if x.fields[i].Name == "x-forwarded-for" {
			x.fields[i].Value = v
			return
		}
	}
	x.fields = append(x.fields, attrs.Field{Name: "x-forwarded-for", Value: v})
}

// normalize splits and normalizes the request target.
func (x *exchange) normalize(mode config.Normalization) bool {
	target := x.in.Target
	if target == "" || target[0] != '/' {
		details := "absolute_path_rejected"
		if target == "" {
			details = "missing_path_rejected"
		}
		x.answer(reply{status: 404, details: details})
		return false
	}
	if i := strings.IndexByte(target, '#'); i >= 0 {
		// Istio's bootstrap has the fragment stripped rather than refused.
		target = target[:i]
	}
	x.req.Path, x.req.Query, x.req.HasQuery = strings.Cut(target, "?")
	at := len(x.scratch)
	path, scratch, ok := normalizePath(x.scratch, x.req.Path, mode)
	if !ok {
		x.answer(reply{status: 400, details: "path_normalization_failed"})
		return false
	}
	x.scratch = scratch
	x.up.Target = target
	if path != x.req.Path {
		x.req.Path = path
		// The query follows the path in scratch, so that the two make the target.
		if x.req.HasQuery {
			x.scratch = append(append(x.scratch, '?'), x.req.Query...)
		}
		x.up.Target = view(x.scratch[at:])
	}
	return true
}

// usable refuses a chain that cannot be served.
func (x *exchange) usable() bool {
	if x.chain.Broken == "" {
		return true
	}
	x.rec.Reason = "chain_broken"
	x.answer(reply{status: 503, body: "waypoint: " + x.chain.Broken, details: "chain_broken"})
	return false
}

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

// choose carries out what the rule says, up to the choice of a target.
func (x *exchange) choose() bool {
	rule := x.result.Rule
	switch {
	case rule.Broken != "":
		x.rec.Reason = "rule_broken"
		x.answer(reply{status: 500, details: "direct_response"})
		return false
	case rule.Redirect != nil:
		at := len(x.scratch)
		x.scratch = rule.Redirect.AppendLocation(x.scratch, &x.req, x.result.Prefix, x.t.conn.DestPort)
		x.extra = append(x.extra, attrs.Field{Name: "location", Value: view(x.scratch[at:])})
		x.answer(reply{status: rule.Redirect.Code(), fields: x.replyFields(), details: "direct_response", plain: true})
		return false
	case rule.Direct != nil:
		x.answer(reply{status: rule.Direct.Status, body: rule.Direct.Body, fields: x.replyFields(), details: "direct_response"})
		return false
	}
	if x.backend, x.target = x.resume(rule); x.backend == nil {
		x.backend = x.t.draw(x.chain, rule)
		if x.backend == nil {
			x.answer(reply{status: 500, details: "direct_response"})
			return false
		}
		x.target = x.t.target(x.chain, x.backend)
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
	if len(rule.Mirrors) > 0 && !x.dry {
		x.mirror()
	}
	return true
}

// draw picks a backend by weight. Explain, which has to say the same each time, gets
// one whose share is served, if there is one.
func (t *tunnel) draw(c *config.Chain, rule *routing.Compiled) *routing.Backend {
	if t.dry != nil {
		for i := range rule.Backends {
			b := &rule.Backends[i]
			if b.Weight == 0 || b.Invalid != "" {
				continue
			}
			if target := t.target(c, b); target != nil && target.Spec.Load().Missing == "" {
				return b
			}
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
	if len(sources) == 0 || policy.Kind != balance.RingHash && policy.Kind != balance.Maglev {
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

// replyFields are the response headers of an answer that the rule makes.
func (x *exchange) replyFields() []attrs.Field {
	fs := x.result.Rule.ReplyHeaders(nil, x.extra)
	if x.cors == routing.CORSActual {
		fs = x.result.Rule.CORS.ApplyResponse(fs, &x.req)
	}
	return applyEdits(fs, x.edits)
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

// edit builds the head that goes upstream.
func (x *exchange) edit() {
	in, rule := x.in, x.result.Rule
	x.up.Method, x.up.Scheme, x.up.Authority = in.Method, x.req.Scheme, x.req.Authority
	x.up.Length, x.up.Expect, x.up.Upgrade, x.up.Trailers = in.Length, in.Expect && !x.gathered.on, in.Upgrade, in.Trailers
	x.up.Fields = x.fields
	if rule.Request != nil || x.backend.Filters.Request != nil {
		// Edits work in place; what policies read must stay as it was for CORS and
		// for the check at a change of policies.
		x.upFields = append(x.upFields[:0], x.fields...)
		x.up.Fields, x.up.Authority = rule.RequestHeaders(x.backend, x.upFields, x.up.Authority)
		x.upFields = x.up.Fields
	}
	if w := rule.Rewrite; w != nil {
		if w.Host != "" {
			x.up.Fields = append(x.up.Fields, attrs.Field{Name: "x-envoy-original-host", Value: x.up.Authority})
			x.up.Authority = w.Host
		}
		if w.ChangesPath() {
			x.up.Fields = append(x.up.Fields, attrs.Field{Name: "x-envoy-original-path", Value: x.up.Target})
			at := len(x.scratch)
			x.scratch = w.AppendTarget(x.scratch, &x.req, x.result.Prefix)
			x.up.Target = view(x.scratch[at:])
		}
	}
	if d := x.expected(); d > 0 {
		x.up.Fields = append(x.up.Fields, attrs.Field{Name: "x-envoy-expected-rq-timeout-ms", Value: decimal(d.Milliseconds())})
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
