package kube

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/resilience"
	"waypoint.dev/waypoint/routing"
)

// Print writes what a model serves, for people: stable, without the parts that
// have their default value.
func Print(w io.Writer, m *config.Model) {
	if o := m.Mesh.Waypoint; o.Name != "" { // else a problem says that there is none
		fmt.Fprintf(w, "waypoint %s/%s class %s\n", o.Namespace, o.Name, o.Class)
	}
	for _, d := range m.Destinations {
		printDestination(w, d)
	}
	for _, k := range slices.Sorted(maps.Keys(m.Backends)) {
		printBackend(w, m.Backends[k])
	}
	for _, x := range m.Workloads {
		fmt.Fprintf(w, "workload %s %v %s/%s", x.UID, x.Addrs, x.Namespace, x.ServiceAccount)
		if x.Tunnel {
			fmt.Fprint(w, " hbone")
		}
		if !x.Healthy {
			fmt.Fprint(w, " unhealthy")
		}
		fmt.Fprintf(w, " %s %s@%s\n", x.WorkloadType, x.CanonicalName, x.CanonicalRevision)
	}
	for _, p := range m.Problems {
		fmt.Fprintln(w, ProblemLine(p))
	}
}

var severities = [...]string{config.Info: "info", config.Warning: "warning", config.Error: "error"}

// ProblemLine writes a problem in one line.
func ProblemLine(p config.Problem) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: ", severities[p.Severity])
	if p.Source != "" {
		fmt.Fprintf(&b, "%s: ", p.Source)
	}
	switch {
	case p.Kind == "" || p.Kind == "File":
	case p.Name == "": // of no object: there is none of the kind, or too many
		fmt.Fprintf(&b, "%s: ", p.Kind)
	default:
		fmt.Fprintf(&b, "%s: ", Key{Kind: p.Kind, Namespace: p.Namespace, Name: p.Name})
	}
	if p.Field != "" {
		fmt.Fprintf(&b, "%s: ", p.Field)
	}
	first, more, lines := strings.Cut(p.Message, "\n")
	fmt.Fprintf(&b, "%s [%s]", first, p.Reason)
	if lines {
		b.WriteString("\n" + more)
	}
	return b.String()
}

var protocols = [...]string{"auto", "http", "http2", "grpc", "grpc-web", "tcp", "tls"}

func printDestination(w io.Writer, d *config.Destination) {
	fmt.Fprintf(w, "destination %s %v %s", d.Key, d.Addrs, protocols[d.Protocol])
	if d.HTTPOnly {
		fmt.Fprint(w, " http-only")
	}
	if d.Backend != "" {
		fmt.Fprintf(w, " -> %s", d.Backend)
	}
	fmt.Fprintln(w)
	stages := [...]string{"custom", "jwt", "authz", "fault", "cors", "rate limit", "headers"}
	actions := [...]string{"ALLOW", "DENY", "AUDIT", "CUSTOM"}
	for _, s := range d.Stages {
		fmt.Fprintf(w, "  stage %s", stages[s.Kind])
		for _, p := range s.Policies {
			fmt.Fprintf(w, " %s:%s/%s(%d)", actions[p.Action], p.Namespace, p.Name, len(p.Rules))
			if p.Invalid != "" {
				fmt.Fprintf(w, "!%s", p.Invalid)
			}
			if p.DryRun {
				fmt.Fprint(w, "?")
			}
		}
		if l, ok := s.Spec.(*resilience.RateLimit); ok {
			if l.Default != nil {
				fmt.Fprintf(w, " %d per %v burst %d", l.Default.Fill, l.Default.Each, l.Default.Max)
			}
			for _, x := range l.Descriptors {
				fmt.Fprintf(w, " %s:%d per %v burst %d", x.Entries[0].Value, x.Bucket.Fill, x.Bucket.Each, x.Bucket.Max)
			}
		}
		fmt.Fprintln(w)
	}
	if d.Settings.XFCC || d.Settings.XFF {
		fmt.Fprintf(w, "  tells backends of clients: xfcc %v x-forwarded-for %v\n", d.Settings.XFCC, d.Settings.XFF)
	}
	if len(d.Conn) > 0 {
		fmt.Fprintf(w, "  connections:")
		for _, p := range d.Conn {
			fmt.Fprintf(w, " %s:%s/%s", actions[p.Action], p.Namespace, p.Name)
		}
		fmt.Fprintln(w)
	}
	printRules(w, d, "  ", d.Routes)
	for _, ns := range slices.Sorted(maps.Keys(d.Consumers)) {
		fmt.Fprintf(w, "  for clients of %s\n", ns)
		printRules(w, d, "    ", d.Consumers[ns])
	}
	printTCP(w, d, "  ", d.TCPRoutes)
	for _, ns := range slices.Sorted(maps.Keys(d.ConsumerTCP)) {
		fmt.Fprintf(w, "  for clients of %s\n", ns)
		printTCP(w, d, "    ", d.ConsumerTCP[ns])
	}
}

func printTCP(w io.Writer, d *config.Destination, indent string, rs []config.TCPRoute) {
	for _, t := range rs {
		fmt.Fprintf(w, "%stcp %s sni %v", indent, t.Route, t.SNI)
		printBackends(w, d, t.Backends)
		fmt.Fprintln(w)
	}
}

func printRules(w io.Writer, d *config.Destination, indent string, rules []routing.Rule) {
	for i := range rules {
		r := &rules[i]
		name := r.Name
		if name == "" {
			name = fmt.Sprint(r.Index)
		}
		fmt.Fprintf(w, "%s%s %s rule %s", indent, r.Kind, r.Route, name)
		if r.Broken != "" {
			fmt.Fprintf(w, " BROKEN %s", r.Broken)
		}
		if r.Redirect != nil {
			fmt.Fprintf(w, " redirect %d %s %s", r.Redirect.Status, r.Redirect.Scheme, r.Redirect.Host)
		}
		if r.Timeout > 0 {
			fmt.Fprintf(w, " timeout %v", r.Timeout)
		}
		if r.TryTimeout > 0 {
			fmt.Fprintf(w, " try %v", r.TryTimeout)
		}
		if r.Retry >= 0 {
			x := d.Retries[r.Retry]
			fmt.Fprintf(w, " retry %dx%v %v", x.Attempts, x.Backoff, x.Codes)
		}
		if r.IdleTimeout > 0 {
			fmt.Fprintf(w, " idle %v", r.IdleTimeout)
		}
		if r.MaxDuration > 0 {
			fmt.Fprintf(w, " at most %v", r.MaxDuration)
		}
		if r.Session >= 0 {
			x := d.Sessions[r.Session]
			fmt.Fprintf(w, " session %s %s%s %v/%v", map[bool]string{true: "header", false: "cookie"}[x.Header], x.Name, x.Path, x.Absolute, x.Idle)
		}
		printBackends(w, d, r.Backends)
		fmt.Fprintln(w)
		for _, m := range r.Matches {
			fmt.Fprintf(w, "%s  match %s", indent, [...]string{"any", "exact ", "prefix ", "raw prefix ", "regex ", "template "}[m.Path.Kind]+m.Path.Value)
			if m.Method != "" {
				fmt.Fprintf(w, " method %s", m.Method)
			}
			for _, h := range m.Headers {
				fmt.Fprintf(w, " header %s%s%s", h.Name, operator(h), h.Value)
			}
			for _, h := range m.Query {
				fmt.Fprintf(w, " query %s%s%s", h.Name, operator(h), h.Value)
			}
			fmt.Fprintln(w)
		}
		printFilters(w, d, indent+"  ", &r.Filters)
		for j := range r.Backends {
			b := &r.Backends[j]
			if x := b.Redirect; x != nil {
				fmt.Fprintf(w, "%s  backend %d redirect %d %s %s\n", indent, j, x.Status, x.Scheme, x.Host)
			}
			printFilters(w, d, fmt.Sprintf("%s  backend %d ", indent, j), &b.Filters)
		}
	}
}

func operator(v routing.ValueMatch) string {
	if v.Kind == routing.ValueRegex {
		return "~"
	}
	return "="
}

func printFilters(w io.Writer, d *config.Destination, indent string, f *routing.Filters) {
	for _, o := range []struct {
		name string
		ops  *routing.HeaderOps
	}{{"request", f.Request}, {"response", f.Response}} {
		if o.ops != nil {
			fmt.Fprintf(w, "%s%s headers set %v add %v remove %v\n", indent, o.name, o.ops.Set, o.ops.Add, o.ops.Remove)
		}
	}
	if x := f.Rewrite; x != nil {
		fmt.Fprintf(w, "%srewrite host %q full %q prefix %q\n", indent, x.Host, nameOf(x.FullPath), nameOf(x.PrefixReplace))
	}
	for _, m := range f.Mirrors {
		to := m.Invalid
		if m.Ref >= 0 {
			to = d.Refs[m.Ref]
		}
		fmt.Fprintf(w, "%smirror %d/%d -> %s\n", indent, m.Numerator, m.Denominator, to)
	}
	if c := f.CORS; c != nil {
		fmt.Fprintf(w, "%scors %d origins %v %v credentials %v max age %v\n", indent, len(c.AllowOrigins), c.AllowMethods, c.AllowHeaders, c.AllowCredentials, c.MaxAge)
	}
}

func printBackends(w io.Writer, d *config.Destination, bs []routing.Backend) {
	for _, b := range bs {
		to := b.Invalid
		if b.Ref >= 0 {
			to = d.Refs[b.Ref]
		} else {
			to = fmt.Sprintf("%d(%s)", b.Status, to)
		}
		fmt.Fprintf(w, " -> %s*%d", to, b.Weight)
	}
}

func printBackend(w io.Writer, b *config.Backend) {
	fmt.Fprintf(w, "backend %s %s", b.Key, protocols[b.Protocol])
	if b.Missing != "" {
		fmt.Fprintf(w, " MISSING %s", b.Missing)
	}
	if b.Balance.Kind != 0 {
		fmt.Fprintf(w, " balance %d", b.Balance.Kind)
	}
	if s := b.Settings; s.MaxConnections+s.MaxPending+s.MaxRequests+s.MaxRetries+s.MaxRequestsPerConn > 0 {
		fmt.Fprintf(w, " limits %d/%d/%d/%d/%d", s.MaxConnections, s.MaxPending, s.MaxRequests, s.MaxRetries, s.MaxRequestsPerConn)
	}
	if o := b.Settings.Outlier; o != nil {
		fmt.Fprintf(w, " outlier %d/%d %v %v %d%%", o.Consecutive5xx, o.ConsecutiveGateway, o.Interval, o.BaseEjection, o.MaxEjectionPercent)
		if o.AlwaysEjectOne {
			fmt.Fprint(w, " always one")
		}
	}
	if x := b.Settings.RetryBudget; x != nil {
		fmt.Fprintf(w, " budget %v%%/%d", x.Percent, x.MinConcurrent)
		if x.Interval > 0 {
			fmt.Fprintf(w, " in %v min %v/s", x.Interval, x.MinRetryRate)
		}
	}
	if x := b.Settings.Breaker; x != nil {
		fmt.Fprintf(w, " breaker %d/%v%%/%v/%d", x.MinRequests, x.ErrorPercent, x.OpenFor, x.HalfOpenRequests)
	}
	if x := b.Balance.Warmup; x.Duration > 0 {
		fmt.Fprintf(w, " warmup %v", x.Duration)
	}
	for _, h := range b.Balance.Hash {
		fmt.Fprintf(w, " hash %s%s", h.Header, h.Query)
		if h.Cookie != nil {
			fmt.Fprintf(w, "cookie %s %v", h.Cookie.Name, h.Cookie.TTL)
		}
	}
	if b.Balance.LocalityWeighted {
		fmt.Fprint(w, " by locality")
	}
	if x := b.TLS; x != nil {
		fmt.Fprintf(w, " tls sni=%q san=%v ca=%s cert=%s", x.SNI, x.SANs, x.CA, x.Cert)
	}
	if b.ProxyProto > 0 {
		fmt.Fprintf(w, " proxy v%d", b.ProxyProto)
	}
	fmt.Fprintln(w)
	for _, e := range b.Endpoints {
		fmt.Fprintf(w, "  %s", e.Key)
		if e.Tunnel.IsValid() {
			fmt.Fprintf(w, " hbone %s", e.Identity)
		}
		if e.Authority != "" {
			fmt.Fprintf(w, " authority %s", e.Authority)
		}
		if e.Weight > 0 {
			fmt.Fprintf(w, " weight %d", e.Weight)
		}
		if e.Priority > 0 {
			fmt.Fprintf(w, " priority %d", e.Priority)
		}
		fmt.Fprintf(w, " %s/%s %s\n", e.Locality.Region, e.Locality.Zone, [...]string{"healthy", "unhealthy", "draining"}[e.Health])
	}
}
