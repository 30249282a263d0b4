package proxy

import (
	"waypoint.dev/waypoint/authz"
	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/routing"
	"waypoint.dev/waypoint/telemetry"
)

// authorize runs AUDIT, DENY and ALLOW policies.
func (x *exchange) authorize(e *authz.Engine) bool {
	d := e.Check(&x.req)
	x.decided(d)
	allow, deny := e.DryRun(&x.req)
	shadow(&x.rec, allow, deny)
	if d.Allowed {
		return true
	}
	x.denied(d)
	return false
}

// shadow records what dry-run policies would have done. Istio reports the two
// actions apart; together they deny if either does.
func shadow(r *telemetry.Record, allow, deny authz.Shadow) {
	switch {
	case deny.Set && !deny.Allowed:
		r.DryRun, r.DryRunPolicy = "denied", deny.Policy
	case allow.Set && !allow.Allowed:
		r.DryRun = "denied"
	case allow.Set:
		r.DryRun, r.DryRunPolicy = "allowed", allow.Policy
	case deny.Set:
		r.DryRun = "allowed"
	}
}

func (x *exchange) decided(d authz.Decision) {
	x.rec.Policy, x.rec.Rule, x.rec.Reason = d.Policy, d.Rule, string(d.Reason)
	x.rec.Denied = !d.Allowed
	if d.Audit != "" {
		x.rec.Audit = d.Audit
	}
}

// denied answers 403 as Istio's RBAC filter does, with what an authorizer that was
// asked before wants in responses.
func (x *exchange) denied(d authz.Decision) {
	x.answer(reply{status: 403, body: authz.DenyBody, fields: x.ownFields(nil), details: d.Details})
}

// verify runs the JWT stage, for CORS preflights too: which of them pass unread
// is its own setting, and headers that only it may write are removed from them.
func (x *exchange) verify(run any) bool {
	v, known := run.(TokenVerifier)
	return x.runnable(known, "jwt_authn") && x.apply(v.Verify(x.context(), &x.req), "jwt_authn_access_denied")
}

// custom asks the external authorizers that matching CUSTOM policies name.
func (x *exchange) custom(st *config.CompiledStage) bool {
	for i := 0; ; {
		provider, d, next, ok := st.Authz.CustomFrom(&x.req, i)
		if !ok {
			return true // no further CUSTOM policy matches
		}
		i = next
		if provider == "" {
			x.decided(d)
			x.denied(d)
			return false
		}
		x.rec.Policy, x.rec.Rule, x.rec.Reason = d.Policy, d.Rule, string(d.Reason)
		if x.dry {
			x.notAsked = append(x.notAsked, "external authorization by "+provider+" for policy "+d.Policy)
			continue
		}
		if !x.ask(st.Run, provider) {
			return false
		}
	}
}

// errorDetails are Envoy's response_code_details where an authorizer could not be asked.
const errorDetails = "ext_authz_error"

// ask puts the request to one provider.
func (x *exchange) ask(run any, provider string) bool {
	a, known := run.(ExtAuthorizer)
	if !known || !a.Knows(provider) {
		x.rec.Denied = true
		x.answer(reply{status: 403, fields: x.ownFields(nil), flags: telemetry.FlagUAEX, details: errorDetails})
		return false
	}
	c := Check{
		Provider: provider, Request: &x.req, Conn: &x.t.conn,
		RequestID: x.rec.RequestID, Protocol: x.rec.Version, Time: x.now, Size: x.in.Length,
	}
	if limit, partial := a.NeedsBody(provider); limit > 0 {
		if !x.gather(limit, partial) {
			return false
		}
		c.Body, c.Partial = x.gathered.bytes(limit, &x.src)
	}
	ctx, stop := x.interruptible()
	v := a.Authorize(ctx, &c)
	stop()
	if x.gone.Load() {
		x.hold(v.Hold)
		x.left()
		return false
	}
	if !v.Allow {
		v.Flags |= telemetry.FlagUAEX
	}
	return x.apply(v, "ext_authz_denied")
}

// apply carries a verdict out. details stands in when a denial brings none.
func (x *exchange) apply(v Verdict, details string) bool {
	x.hold(v.Hold)
	if v.Policy != "" {
		x.rec.Policy = v.Policy
	}
	if v.Reason != "" {
		x.rec.Reason = v.Reason
	}
	if !v.Allow {
		x.rec.Denied = true
		x.refuse(&v, details)
		return false
	}
	x.rec.Flags |= v.Flags
	for _, name := range v.Remove {
		x.fields = removeField(x.fields, name)
	}
	x.guarded = append(x.guarded, v.Remove...)
	for _, f := range v.Set {
		x.fields = setField(x.fields, f.Name, f.Value)
	}
	x.fields = append(x.fields, v.Add...)
	x.req.Headers = x.fields
	if v.QueryChanged {
		x.setQuery(v.Query, v.HasQuery)
	}
	if v.Claims != nil {
		x.req.Claims = v.Claims
	}
	if v.Claims != nil || v.ClearRoute {
		x.result = routing.Result{} // claims take part in matching (Istio clears the route cache)
		x.rec.Route = "default"
	}
	x.edits = append(x.edits, v.Response...)
	return true
}

// refuse answers for a verdict that denies.
func (x *exchange) refuse(v *Verdict, details string) {
	if v.Status == 0 {
		v.Status = 403
	}
	if v.Details != "" {
		details = v.Details
	}
	x.answer(reply{status: v.Status, body: v.Body, fields: x.ownFields(v.Fields), flags: v.Flags, details: details})
}

// hold keeps what a verdict borrows from until the exchange has ended.
func (x *exchange) hold(r Releaser) {
	if r != nil {
		x.held = append(x.held, r)
	}
}

// setQuery changes the query of the request, and of its target.
func (x *exchange) setQuery(query string, has bool) {
	x.req.Query, x.req.HasQuery = query, has
	at := len(x.scratch)
	x.scratch = append(x.scratch, x.req.Path...)
	if has {
		x.scratch = append(append(x.scratch, '?'), query...)
	}
	x.up.Target = view(x.scratch[at:])
}

// rateLimit takes a token.
func (x *exchange) rateLimit(run any) bool {
	l, known := run.(RateLimiter)
	if !x.runnable(known, "rate_limit") {
		return false
	}
	v := l.Limit(x.context(), &x.req, x.result.Rule.Rule)
	if v.Allow {
		return x.apply(v, "")
	}
	x.hold(v.Hold)
	x.rec.Reason = v.Reason
	if v.Status == 0 {
		v.Status = 429
	}
	x.refuse(&v, "local_rate_limited")
	return false
}
