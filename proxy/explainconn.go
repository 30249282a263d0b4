package proxy

import (
	"strings"

	"waypoint.dev/waypoint/authz"
	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/routing"
	"waypoint.dev/waypoint/telemetry"
)

// explainConn tells what becomes of a connection without HTTP. Its status is 200
// where it is passed on, 403 where the CONNECT is refused, and 0 where the
// connection is closed, which has no status.
func explainConn(t *tunnel, c *config.Chain, x *exchange) *Explanation {
	if c.Spec.Protocol == config.ProtocolTCP {
		t.conn.SNI = "" // nobody looks
	}
	s := &session{t: t, declared: c.Spec.Protocol != config.ProtocolAuto}
	r := &s.rec
	r.Reset()
	e := &Explanation{
		Destination: c.Spec.Key, Connection: true, Decision: "allow", Action: "close", Match: -1,
		Backends: []ExplainedBackend{}, Policies: []authz.Considered{}, Routes: []routing.Considered{},
	}
	if !s.declared && c.HTTPOnly {
		notHTTP(r)
	} else {
		route, target := s.decide(c, false)
		e.Policies = append(e.Policies, c.Conn.ExplainConn(&t.conn)...)
		e.Routes = append(e.Routes, explainTCP(c.TCPRoutes(t.conn.Peer.Namespace), route, t.conn.SNI)...)
		switch {
		case route != nil:
			e.Route, e.Rule = route.Spec.Route, route.Spec.Rule
			e.Backends = t.backends(c, route.Pick)
		case target != nil:
			e.Backends = append(e.Backends, explained(target, 1))
		}
		switch {
		case target != nil && t.idle(target):
			r.Flags |= failNoHost.flag()
			r.Details = failNoHost.details(false)
		case target != nil:
			e.Action, e.Status = "forward", 200
		case r.Denied:
			e.Decision = "deny"
			if c.Spec.Protocol == config.ProtocolTCP {
				e.Action, e.Status = "answer", 403 // nothing is awaited: the CONNECT says so
			}
		}
	}
	e.Audit, e.DryRun, e.DryRunPolicy = r.Audit, r.DryRun, r.DryRunPolicy
	e.Policy, e.PRule, e.Reason, e.NotAsked = r.Policy, r.Rule, r.Reason, x.notAsked
	e.Flags, e.Details = r.Flags.String(), cause(r)
	return e
}

// cause is why a connection or request ended, in Envoy's words.
func cause(r *telemetry.Record) string {
	if r.Details != "" {
		return r.Details
	}
	return r.Termination
}

// explainTCP says of each route of connections whether it won, and why not.
func explainTCP(rs []config.CompiledTCP, won *config.CompiledTCP, sni string) (out []routing.Considered) {
	for i := range rs {
		spec := rs[i].Spec
		v := routing.Considered{Route: spec.Route, Rule: spec.Rule, Wants: "any connection", Outcome: routing.Shadowed}
		if len(spec.SNI) > 0 {
			v.Wants = "server name " + strings.Join(spec.SNI, " or ")
		}
		switch {
		case &rs[i] == won:
			v.Outcome = routing.Won
		case len(spec.SNI) > 0 && !routing.MatchSNI(spec.SNI, sni):
			v.Outcome, v.Why = routing.Lost, "the server name is \""+sni+"\""
		}
		out = append(out, v)
	}
	return out
}
