package proxy

import (
	"context"
	"math/rand/v2"
	"time"

	"waypoint.dev/waypoint/authz"
	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/internal/attrs"
	"waypoint.dev/waypoint/resilience"
	"waypoint.dev/waypoint/routing"
	"waypoint.dev/waypoint/telemetry"
)

// Verdict is what a stage outside of this package decides. The zero value
// denies with 403: a forgotten path stays closed.
type Verdict struct {
	Allow bool

	// When it denies. Fields are response headers; Details and Flags go into the
	// record.
	Status  int // 0: 403
	Body    string
	Fields  []attrs.Field
	Flags   telemetry.Flags
	Details string
	Policy  string // "namespace/name" that decided, if known
	Reason  string

	// When it allows: edits of the request that later stages and the backend see,
	// the verified token, and headers for the response.
	Set      []attrs.Field
	Add      []attrs.Field
	Remove   []string
	Claims   *attrs.Claims
	Response []attrs.Field
}

// ExtAuthorizer asks an external authorization service; it is what a
// config.StageCustom runs. r is borrowed until it returns.
type ExtAuthorizer interface {
	Authorize(ctx context.Context, provider string, r *attrs.Request) Verdict
}

// TokenVerifier verifies the tokens of a request; it is what a config.StageJWT
// runs. It must not do I/O on the request's account for longer than its own
// timeout.
type TokenVerifier interface {
	Verify(ctx context.Context, r *attrs.Request) Verdict
}

// RateLimiter takes a token for a request; it is what a config.StageRateLimit
// runs. rule is the one that matched.
type RateLimiter interface {
	Limit(ctx context.Context, r *attrs.Request, rule *routing.Rule) Verdict
}

// Faults is what a config.StageFault runs: the faults that routing.Rule.Fault
// indexes.
type Faults []*resilience.Fault

// stages runs the steps of the chain in their order and reports whether the
// request goes on. The route is matched before the first step that depends on it.
func (x *exchange) stages() bool {
	c := x.chain
	cors := false
	for i := range c.Stages {
		st := &c.Stages[i]
		switch st.Kind {
		case config.StageFault, config.StageCORS, config.StageRateLimit:
			if x.result.Rule == nil && !x.match() {
				return false
			}
		}
		if x.dry && (st.Kind == config.StageFault || st.Kind == config.StageRateLimit) {
			x.notAsked = append(x.notAsked, stageName(st.Kind))
			continue
		}
		var ok bool
		switch st.Kind {
		case config.StageAuthz:
			ok = x.authorize(st.Authz)
		case config.StageCustom:
			ok = x.custom(st)
		case config.StageJWT:
			v, known := st.Run.(TokenVerifier)
			ok = x.runnable(known, "jwt_authn") && (x.preflight() || x.apply(v.Verify(x.context(), &x.req), "jwt_authn_access_denied"))
		case config.StageFault:
			ok = x.fault(st.Run)
		case config.StageRateLimit:
			v, known := st.Run.(RateLimiter)
			ok = x.runnable(known, "rate_limit") && x.apply(v.Limit(x.context(), &x.req, x.result.Rule.Rule), "local_rate_limited")
		case config.StageCORS:
			cors = true
			ok = x.crossOrigin()
		case config.StageHeaders:
			x.fields, x.req.Authority = st.Headers.ApplyRequest(x.fields, x.req.Authority)
			x.req.Headers = x.fields
			ok = true
		default:
			ok = x.runnable(false, "unknown")
		}
		if !ok {
			return false
		}
	}
	if x.result.Rule == nil && !x.match() {
		return false
	}
	return cors || x.crossOrigin()
}

func stageName(k config.StageKind) string {
	if k == config.StageFault {
		return "fault injection"
	}
	return "rate limit"
}

// preflight reports a CORS preflight, which carries no token: browsers send none
// (Fetch standard). It still passes the authorization policies.
func (x *exchange) preflight() bool {
	return x.known.preflight && x.req.Method == "OPTIONS" && x.known.origin != ""
}

// runnable fails closed for a stage that nothing runs.
func (x *exchange) runnable(known bool, name string) bool {
	if !known {
		x.rec.Reason = "stage_unavailable"
		x.answer(reply{status: 503, details: "stage_unavailable{" + name + "}"})
	}
	return known
}

// authorize runs AUDIT, DENY and ALLOW policies.
func (x *exchange) authorize(e *authz.Engine) bool {
	d := e.Check(&x.req)
	x.decided(d)
	if d.Allowed {
		return true
	}
	x.denied(d)
	return false
}

func (x *exchange) decided(d authz.Decision) {
	x.rec.Policy, x.rec.Rule, x.rec.Reason = d.Policy, d.Rule, string(d.Reason)
	x.rec.Denied = !d.Allowed
}

// denied answers 403 as Istio's RBAC filter does.
func (x *exchange) denied(d authz.Decision) {
	rule := d.Rule
	if rule == "" {
		rule = "none"
	}
	at := len(x.scratch)
	x.scratch = append(x.scratch, "rbac_access_denied_matched_policy["...)
	x.scratch = append(x.scratch, rule...)
	x.scratch = append(x.scratch, ']')
	x.answer(reply{status: 403, body: "RBAC: access denied", details: view(x.scratch[at:])})
}

// custom asks the external authorizer that a matching CUSTOM policy names.
func (x *exchange) custom(st *config.CompiledStage) bool {
	provider, d, ok := st.Authz.Custom(&x.req)
	if !ok {
		return true // no CUSTOM policy matches
	}
	if d.Reason == authz.ReasonCustomConflict || d.Reason == authz.ReasonPolicyInvalid {
		x.decided(d)
		x.denied(d)
		return false
	}
	x.rec.Policy, x.rec.Rule, x.rec.Reason = d.Policy, d.Rule, string(d.Reason)
	if x.dry {
		x.notAsked = append(x.notAsked, "external authorization by "+provider+" for policy "+d.Policy)
		return true
	}
	v, known := st.Run.(ExtAuthorizer)
	if !known {
		x.rec.Denied = true
		x.answer(reply{status: 403, flags: telemetry.FlagUAEX, details: "ext_authz_error"})
		return false
	}
	verdict := v.Authorize(x.context(), provider, &x.req)
	if !verdict.Allow {
		verdict.Flags |= telemetry.FlagUAEX
	}
	return x.apply(verdict, "ext_authz_denied")
}

// apply carries a verdict out. details stands in when a denial brings none.
func (x *exchange) apply(v Verdict, details string) bool {
	if v.Policy != "" {
		x.rec.Policy = v.Policy
	}
	if v.Reason != "" {
		x.rec.Reason = v.Reason
	}
	if !v.Allow {
		x.rec.Denied = true
		if v.Status == 0 {
			v.Status = 403
		}
		if v.Details != "" {
			details = v.Details
		}
		x.answer(reply{status: v.Status, body: v.Body, fields: v.Fields, flags: v.Flags, details: details})
		return false
	}
	x.rec.Flags |= v.Flags
	for _, name := range v.Remove {
		x.fields = removeField(x.fields, name)
	}
	for _, f := range v.Set {
		x.fields = setField(x.fields, f.Name, f.Value)
	}
	x.fields = append(x.fields, v.Add...)
	x.req.Headers = x.fields
	if v.Claims != nil {
		x.req.Claims = v.Claims
		x.result = routing.Result{} // claims take part in matching (Istio clears the route cache)
	}
	x.extra = append(x.extra, v.Response...)
	return true
}

// fault delays or aborts the request as its rule says.
func (x *exchange) fault(run any) bool {
	list, known := run.(Faults)
	if !x.runnable(known, "fault") {
		return false
	}
	i := x.result.Rule.Rule.Fault
	if i < 0 || i >= len(list) {
		return true
	}
	f := list[i].Draw(rand.Uint64)
	if f.Delay > 0 {
		x.rec.Flags |= telemetry.FlagDI
		if !x.pause(f.Delay) {
			x.left()
			return false
		}
	}
	if !f.Abort {
		return true
	}
	r := reply{status: f.Status, body: "fault filter abort", flags: telemetry.FlagFI, details: "fault_filter_abort"}
	if f.GRPC != "" {
		// The fault names the code itself, also to a client that speaks no gRPC.
		r.plain, r.body = true, ""
		r.fields = []attrs.Field{{Name: "content-type", Value: "application/grpc"}, {Name: "grpc-status", Value: f.GRPC}, {Name: "grpc-message", Value: "fault filter abort"}}
	}
	x.answer(r)
	return false
}

// pause waits, and reports whether the client is still there.
func (x *exchange) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-x.p.ctx.Done():
		x.gone.Store(true)
	}
	return !x.gone.Load()
}

// crossOrigin applies the CORS policy of the matched rule.
func (x *exchange) crossOrigin() bool {
	rule := x.result.Rule
	if rule.CORS == nil {
		return true
	}
	x.cors = rule.CORS.Check(&x.req)
	switch x.cors {
	case routing.CORSPreflight:
		x.answer(reply{status: routing.CORSStatus, fields: rule.CORS.AppendPreflight(nil, &x.req), details: "cors_response", plain: true})
		return false
	case routing.CORSRefused:
		x.answer(reply{status: routing.CORSStatus, details: "cors_response", plain: true})
		return false
	}
	return true
}
