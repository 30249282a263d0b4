package kube

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/resilience/session"
	"waypoint.dev/waypoint/routing"
)

// session applies session persistence (GEP-1619): the rule's own, else what a policy
// says of its backends. A rule that is broken or forwards nothing has none.
func (t *translator) session(x *route, rule *routing.Rule, own *SessionPersistence) {
	switch {
	case rule.Broken != "" || rule.Redirect != nil:
	case own != nil:
		keepSessions(t.d, rule, own, false)
	default:
		if s := t.backendSession(x, rule); s != nil {
			keepSessions(t.d, rule, s, true)
		}
	}
}

// backendSession is the session persistence that policies give a rule: that of its
// first backend that has some holds for all of them. Were it only for that one, the
// backends beside it would lose their clients to it, one by one.
func (t *translator) backendSession(x *route, rule *routing.Rule) (found *SessionPersistence) {
	for i := range rule.Backends {
		b := &rule.Backends[i]
		if b.Invalid != "" || b.Redirect != nil {
			continue
		}
		s := t.sessionOf(t.d.Refs[b.Ref])
		switch {
		case s == nil:
		case found == nil:
			found = s
		case !reflect.DeepEqual(found, s):
			t.problem(config.Warning, x.obj, at(at("spec.rules", rule.Index)+".backendRefs", i), "Conflicted",
				"policies give the backends of this rule different session persistence; that of the first backend counts: set sessionPersistence in the rule")
		}
	}
	return found
}

// sessionOf is the session persistence that a policy gives the service of a backend;
// nil for one that was not built of objects, as under an [Overlay].
func (r *build) sessionOf(backend string) *SessionPersistence {
	b := r.backends[backend]
	if b == nil || b.service == nil {
		return nil
	}
	return r.backendPolicies[b.service.obj.Key].session
}

// keepSessions makes a rule keep sessions. shared says that other rules have the same
// persistence by a policy: sessions are never shared, so where the cookie of one rule
// would overwrite that of another, its name tells them apart.
func keepSessions(d *config.Destination, rule *routing.Rule, s *SessionPersistence, shared bool) {
	x := &session.Spec{
		Scope:    rule.Kind + "/" + rule.Route + "/" + cmp.Or(rule.Name, strconv.Itoa(rule.Index)),
		Header:   s.Type != nil && *s.Type == "Header",
		Absolute: gatewayDuration(s.AbsoluteTimeout), Idle: gatewayDuration(s.IdleTimeout),
		Permanent: s.CookieConfig != nil && nameOf(s.CookieConfig.LifetimeType) == "Permanent",
	}
	if rule.Route == "" {
		x.Scope = "Service/" + d.Key
	}
	own := fmt.Sprintf("%08x", uint32(session.Digest(x.Scope)))
	if x.Name = nameOf(s.SessionName); x.Name == "" {
		// Rules without a name must not overwrite each other's cookies.
		x.Name = "waypoint-session-" + own
	}
	if x.Header {
		x.Name = strings.ToLower(x.Name)
	} else {
		x.Path = cookiePath(rule)
		if shared && slices.ContainsFunc(d.Sessions, func(o *session.Spec) bool { return !o.Header && o.Name == x.Name && o.Path == x.Path }) {
			x.Name += "-" + own
		}
	}
	rule.Session = len(d.Sessions)
	d.Sessions = append(d.Sessions, x)
}

// cookiePath is the path that all matches of the rule share, or "/" (GEP-1619).
func cookiePath(rule *routing.Rule) string {
	path := ""
	for i := range rule.Matches {
		m := &rule.Matches[i].Path
		if m.Kind != routing.PathPrefix && m.Kind != routing.PathExact || i > 0 && m.Value != path || strings.ContainsAny(m.Value, ";,\"") {
			return "/"
		}
		path = m.Value
	}
	return cmp.Or(path, "/")
}
