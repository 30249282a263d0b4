package proxy

import (
	"time"

	"waypoint.dev/waypoint/authz"
	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/telemetry"
)

// allowed asks the policies of connections, and what CUSTOM ones name.
func (t *tunnel) allowed(c *config.Chain) (d authz.Decision, flags telemetry.Flags, ok bool) {
	// What costs nothing first: both must agree, and nothing is told of a
	// connection that is refused anyway.
	d = c.Conn.CheckConn(&t.conn)
	if !d.Allowed {
		return d, 0, false
	}
	d, flags = t.customConn(c)
	return d, flags, d.Allowed
}

// observe records what AUDIT and dry-run policies say of the connection.
func (t *tunnel) observe(c *config.Chain, r *telemetry.Record) {
	r.Audit = c.Conn.CheckConn(&t.conn).Audit
	allow, deny := c.Conn.DryRunConn(&t.conn)
	shadow(r, allow, deny)
}

// customConn asks the external authorizers that CUSTOM policies name for a
// connection without HTTP. The decision is the denial of the first that does not
// say yes.
func (t *tunnel) customConn(c *config.Chain) (authz.Decision, telemetry.Flags) {
	for i := 0; ; {
		provider, d, next, ok := c.Conn.CustomConn(&t.conn, i)
		if !ok {
			return authz.Decision{Allowed: true}, 0
		}
		i = next
		if provider == "" {
			return d, 0
		}
		if t.dry != nil {
			t.dry.notAsked = append(t.dry.notAsked, "external authorization by "+provider+" for policy "+d.Policy)
			continue
		}
		v := t.askConn(c, provider)
		if v.Hold != nil {
			v.Hold.Release()
		}
		if !v.Allow {
			if d.Details = v.Details; d.Details == "" {
				d.Details = errorDetails
			}
			return d, telemetry.FlagUAEX
		}
	}
}

func (t *tunnel) askConn(c *config.Chain, provider string) Verdict {
	for i := range c.Stages {
		a, ok := c.Stages[i].Run.(ExtAuthorizer)
		if !ok || !a.Knows(provider) {
			continue
		}
		ctx, stop := t.interruptible()
		defer stop()
		return a.Authorize(ctx, &Check{Provider: provider, Conn: &t.conn, Time: time.Now(), Size: -1})
	}
	return Verdict{}
}

// deniedConn writes a denial into the record of a connection.
func deniedConn(r *telemetry.Record, d authz.Decision, flags telemetry.Flags) {
	r.Denied, r.Policy, r.Rule, r.Reason = true, d.Policy, d.Rule, string(d.Reason)
	r.Flags |= flags
	if r.Termination = d.Details; d.Details == "" {
		r.Termination = "rbac_access_denied_matched_policy[none]"
	}
}
