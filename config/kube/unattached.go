package kube

import (
	"strings"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/internal/attrs"
)

// warnUnattached tells who applies a policy without targetRefs, which is no
// waypoint, and what it misses there.
func (r *build) warnUnattached(o *Object, a *Attachment) {
	if len(a.refs()) > 0 || r.selectsWaypoint(o, a) {
		return
	}
	field, has := "spec.targetRefs", "has no targetRefs"
	if a.Selector != nil {
		field, has = "spec.selector", "selects workloads in place of targetRefs"
	}
	say := func(sev config.Severity, format string, args ...any) {
		r.problem(sev, o, field, "NotAttached", has+format, args...)
	}
	spec, ok := o.Body.(*AuthorizationPolicy)
	if !ok {
		say(config.Warning, ", so no waypoint applies it, and ztunnel verifies no tokens: %s", r.attachTo())
		return
	}
	if spec.Action == "CUSTOM" || spec.Action == "AUDIT" {
		say(config.Warning, ", so no waypoint applies it, and ztunnel knows no action %s: %s", spec.Action, r.attachTo())
		return
	}
	for i := range spec.Rules {
		if spec.Rules[i].http() {
			say(config.Warning, ", so no waypoint applies it, and ztunnel, which does, cannot check HTTP as rule %d asks: %s", i, r.attachTo())
			return
		}
	}
	if r.gw == nil || !r.refusesWaypoint(o) {
		say(config.Info, ": ztunnel enforces it, and no waypoint does")
		return
	}
	say(config.Warning, ", so no waypoint applies it, and ztunnel, which does, sees %s as the source of what comes through this waypoint: %s",
		r.waypointPrincipal().Name(), map[string]string{
			"ALLOW": "let it in here, and put rules about callers into a policy with targetRefs",
			"DENY":  "put rules about callers into a policy with targetRefs",
		}[spec.Action])
}

// attachTo says how a policy is attached to this waypoint.
func (r *build) attachTo() string {
	if r.gw == nil {
		return "add targetRefs with a Service or a Gateway"
	}
	return "add targetRefs with a Service, or with kind Gateway, name " + r.gw.Name
}

// refusesWaypoint reports whether a policy without HTTP fields, which ztunnel
// enforces, does not mean what comes through this waypoint: an ALLOW that does not
// let it in, or a DENY about callers, who are not seen behind it.
func (r *build) refusesWaypoint(o *Object) bool {
	spec := o.Body.(*AuthorizationPolicy)
	if spec.Action == "DENY" {
		for i := range spec.Rules {
			rule := &spec.Rules[i]
			callers := len(rule.From) > 0
			for _, w := range rule.When {
				callers = callers || strings.HasPrefix(w.Key, "source.")
			}
			if callers {
				return true
			}
		}
		return false
	}
	p := r.newPolicy(o, nil)
	if p.err != nil {
		return false // reported as what it is
	}
	from := r.waypointPrincipal()
	for i := range p.Rules {
		// Its address and port are not known here: a rule that asks for them may fit.
		if rule := &p.Rules[i]; rule.When.MatchConn(&attrs.Conn{Peer: from}) || len(spec.Rules[i].From) == 0 {
			return false
		}
	}
	return true
}
