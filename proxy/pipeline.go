package proxy

import (
	"net/netip"
	"slices"
	"strings"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/internal/attrs"
	"waypoint.dev/waypoint/proxy/codec"
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
	x.rec.Service, x.rec.Plan = t.serviceOf(x.chain), planOf(x.chain)
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
	if k.requestID == "" && !set.NoRequestID {
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
	x.keepServer, x.quiet, x.server = set.KeepServer, set.Quiet, set.ServerName
	if set.XFCC {
		x.fields = append(x.fields, attrs.Field{Name: "x-forwarded-client-cert", Value: x.t.xfcc()})
	}
	if set.XFF && x.t.conn.Source.IsValid() {
		x.appendForwarded()
	}
	x.trace()
	x.req.Headers = x.fields
	if (set.MaxFields > 0 || set.Underscores != config.UnderscoresPass) && !x.wellNamed(set) {
		return false
	}
	if in.Method == "CONNECT" {
		// An inner CONNECT is an upgrade that no route allows (Envoy: upgrade_failed).
		x.answer(reply{status: 403, details: "upgrade_failed"})
		return false
	}
	return x.normalize(set.Normalization)
}

// wellNamed holds the request's fields to the settings of its destination. It reports
// whether the request goes on; otherwise it is answered.
func (x *exchange) wellNamed(set *config.HTTPSettings) bool {
	if set.MaxFields > 0 && len(x.in.Fields)+1 > set.MaxFields { // with host
		x.answer(reply{status: 431, body: malformedBody(431), flags: telemetry.FlagDPE, details: "http1.too_many_headers", plain: true})
		return false
	}
	under := func(f attrs.Field) bool { return strings.IndexByte(f.Name, '_') >= 0 }
	switch set.Underscores {
	case config.UnderscoresReject:
		if slices.ContainsFunc(x.in.Fields, under) {
			x.answer(reply{status: 400, body: malformedBody(400), flags: telemetry.FlagDPE, details: "http1.unexpected_underscore", plain: true})
			return false
		}
	case config.UnderscoresDrop:
		x.fields = slices.DeleteFunc(x.fields, under)
		x.req.Headers = x.fields
	}
	return true
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
