package proxy

import (
	"waypoint.dev/waypoint/internal/attrs"
	"waypoint.dev/waypoint/routing"
)

// edit builds the head that goes upstream.
func (x *exchange) edit() {
	in, rule := x.in, x.result.Rule
	x.up.Method, x.up.Scheme, x.up.Authority = in.Method, x.req.Scheme, x.req.Authority
	x.up.Length, x.up.Expect, x.up.Upgrade, x.up.Trailers = in.Length, in.Expect && !x.gathered.on, in.Upgrade, in.Trailers
	x.up.Fields = x.fields
	if rule.Request != nil || x.backend.Request != nil {
		// Edits work in place; what policies read must stay as it was for CORS and
		// for the check at a change of policies.
		x.upFields = append(x.upFields[:0], x.fields...)
		x.up.Fields, x.up.Authority = rule.RequestHeaders(x.backend, x.upFields, x.up.Authority, x)
		x.upFields = x.up.Fields
	}
	if w := x.backend.Rewrite; w != nil {
		if w.Host != "" {
			x.tell("x-envoy-original-host", x.up.Authority)
			x.up.Authority = w.Host
		}
		if w.ChangesPath() {
			x.tell("x-envoy-original-path", x.up.Target)
			at := len(x.scratch)
			x.scratch = w.AppendTarget(x.scratch, &x.req, x.result.Prefix)
			x.up.Target = view(x.scratch[at:])
		}
	}
	if d := x.expected(); d > 0 {
		x.tell("x-envoy-expected-rq-timeout-ms", decimal(d.Milliseconds()))
	}
}

// tell adds a header of Envoy's to the request that goes upstream, unless those are
// switched off.
func (x *exchange) tell(name, value string) {
	if !x.quiet {
		x.up.Fields = append(x.up.Fields, attrs.Field{Name: name, Value: value})
	}
}

// ownFields are the response headers of an answer that is made before the request was
// routed: by a policy, a token, a fault. They are edited by the rule that it would take
// and for a backend of that, unless the rule answers by itself, as Envoy does for
// whatever filter answers (FilterManager::sendLocalReply). own are the answer's, and
// replace what a rule sets.
func (x *exchange) ownFields(own []attrs.Field) []attrs.Field {
	rule, b := x.result.Rule, x.backend
	if x.chain != nil {
		if rule == nil {
			if res, ok := x.chain.Table(x.t.conn.Peer.Namespace).Match(&x.req); ok {
				rule = res.Rule
			}
		}
		if b == nil && rule != nil && len(rule.Backends) > 0 {
			b = x.t.draw(x.chain, rule)
		}
	}
	var fs []attrs.Field
	if rule != nil && rule.Redirect == nil && rule.Direct == nil {
		fs = rule.ReplyHeaders(b, nil, x)
	}
	for i := range own {
		fs = removeField(fs, own[i].Name)
	}
	return applyEdits(append(fs, own...), x.edits)
}

// replyFields are the response headers of an answer that the rule makes, edited for the
// backend too where one was picked (Envoy: Router::modify_headers_).
func (x *exchange) replyFields() []attrs.Field {
	fs := x.result.Rule.ReplyHeaders(x.backend, x.extra, x)
	if x.cors == routing.CORSActual {
		fs = x.origins.ApplyResponse(fs, &x.req)
	}
	return applyEdits(fs, x.edits)
}
