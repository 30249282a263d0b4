package kube

import (
	"strings"
	"time"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/resilience"
	"waypoint.dev/waypoint/resilience/balance"
)

// applyRules puts the settings of the service's DestinationRule and its traffic
// distribution into a backend.
func (r *build) applyRules(b *config.Backend, s *service, p *port) {
	distribution := s.obj.Meta.Annotations["networking.istio.io/traffic-distribution"]
	if s.kube != nil && s.kube.Spec.TrafficDistribution != "" {
		distribution = s.kube.Spec.TrafficDistribution
	}
	r.prioritize(b, distribution)
	o := r.ruleOf(s)
	if o == nil {
		return
	}
	d := o.Body.(*DestinationRule)
	if len(d.Subsets) > 0 {
		r.problem(config.Info, o, "spec.subsets", "NotApplied", "subsets are chosen by VirtualService only, %s", "which "+notYet)
	}
	t := d.TrafficPolicy
	if t == nil {
		return
	}
	// A port's policy replaces the one above it as a whole.
	eff := t.PortPolicy
	for i := range t.PortLevelSettings {
		if t.PortLevelSettings[i].Port.Number == uint32(p.number) {
			eff = t.PortLevelSettings[i].PortPolicy
		}
	}
	r.pool(b, &eff)
	b.Settings.Outlier = outlier(eff.OutlierDetection)
	if eff.OutlierDetection != nil {
		b.Balance.PanicThreshold = uint32(eff.OutlierDetection.MinHealthPercent)
	}
	r.loadBalancer(b, o, eff.LoadBalancer, eff.OutlierDetection != nil)
	if x := t.RetryBudget; x != nil {
		rb := &resilience.RetryBudget{Percent: 20, MinConcurrent: 3} // Istio's defaults
		if x.Percent != nil {
			rb.Percent = *x.Percent
		}
		if x.MinRetryConcurrency != nil {
			rb.MinConcurrent = *x.MinRetryConcurrency
		}
		rb.Interval = dur(x.BudgetInterval)
		b.Settings.RetryBudget = rb
	}
	if t.ProxyProtocol != nil || t.Tunnel != nil {
		b.Missing = "its DestinationRule " + o.Namespace + "/" + o.Name + " asks for proxyProtocol or tunnel, which " + notYet
		r.problem(config.Error, o, "spec.trafficPolicy", "NotApplied", "proxyProtocol and tunnel are not applied yet; requests to %s answer 503", b.Key)
	}
	if eff.TLS != nil && (eff.TLS.Mode == "SIMPLE" || eff.TLS.Mode == "MUTUAL") {
		// Sending in the clear what was to be encrypted would be worse than failing.
		b.Missing = "its DestinationRule " + o.Namespace + "/" + o.Name + " asks for TLS " + eff.TLS.Mode + ", which " + notYet
		r.problem(config.Error, o, "spec.trafficPolicy.tls", "NotApplied", "TLS %s is not applied yet; requests to %s answer 503", eff.TLS.Mode, b.Key)
	}
}

// ruleOf finds the DestinationRule of a service: in the waypoint's namespace unless
// that is the root, in the service's, in the root. In each an exact host comes
// before a wildcard, the longer wildcard first, then the older rule.
func (r *build) ruleOf(s *service) *Object {
	var spaces []string
	if ns := r.mesh.Waypoint.Namespace; ns != r.mesh.RootNamespace {
		spaces = append(spaces, ns)
	}
	spaces = append(spaces, s.obj.Namespace, r.mesh.RootNamespace)
	for i, ns := range spaces {
		var best *Object
		bestLen := -1
		for _, o := range r.rules()[ns] {
			d := o.Body.(*DestinationRule)
			if d.WorkloadSelector != nil || i > 0 && ns != r.mesh.Waypoint.Namespace && !exported(d.ExportTo, ns, r.mesh.Waypoint.Namespace) {
				continue
			}
			h := strings.ToLower(d.Host)
			if !strings.Contains(h, ".") {
				h += "." + ns + ".svc." + r.mesh.Domain
			}
			n := -1
			switch {
			case h == s.host:
				n = 1 << 16
			case h == "*":
				n = 0
			case strings.HasPrefix(h, "*.") && strings.HasSuffix(s.host, h[1:]):
				n = len(h)
			}
			if n > bestLen || n == bestLen && best != nil && n >= 0 && o.created < best.created {
				best, bestLen = o, n
			}
		}
		if best != nil {
			return best
		}
	}
	return nil
}

// rules returns the DestinationRules by namespace.
func (r *build) rules() map[string][]*Object {
	if r.destRules == nil {
		r.destRules = map[string][]*Object{}
		for _, o := range r.objs.All(groupNet, "DestinationRule") {
			r.destRules[o.Namespace] = append(r.destRules[o.Namespace], o)
			if o.Body.(*DestinationRule).WorkloadSelector != nil {
				r.problem(config.Info, o, "spec.workloadSelector", "NotApplied", "a rule with a workloadSelector is ignored at waypoints")
			}
		}
	}
	return r.destRules
}

func exported(to []string, own, ns string) bool {
	if len(to) == 0 {
		return true
	}
	for _, t := range to {
		if t == "*" || t == ns || t == "." && own == ns {
			return true
		}
	}
	return false
}

func dur(d *Duration) time.Duration {
	if d == nil {
		return 0
	}
	return time.Duration(*d)
}

func (r *build) pool(b *config.Backend, t *PortPolicy) {
	c := t.ConnectionPool
	if c == nil {
		return
	}
	st := &b.Settings
	if c.TCP != nil {
		st.MaxConnections = uint32(c.TCP.MaxConnections)
		st.ConnectTimeout = dur(c.TCP.ConnectTimeout)
		st.IdleTimeout = dur(c.TCP.IdleTimeout)
		st.MaxConnectionDuration = dur(c.TCP.MaxConnectionDuration)
	}
	if h := c.HTTP; h != nil {
		st.MaxPending, st.MaxRequests = uint32(h.HTTP1MaxPendingRequests), uint32(h.HTTP2MaxRequests)
		st.MaxRetries, st.MaxRequestsPerConn = uint32(h.MaxRetries), uint32(h.MaxRequestsPerConnection)
		st.MaxConcurrentStreams = uint32(h.MaxConcurrentStreams)
		if h.IdleTimeout != nil && b.Protocol != config.ProtocolTCP {
			st.IdleTimeout = dur(h.IdleTimeout)
		}
		switch {
		case b.Protocol == config.ProtocolTCP:
		case h.UseClientProtocol:
			b.Protocol = config.ProtocolAuto
		case h.H2UpgradePolicy == "UPGRADE":
			b.Protocol = config.ProtocolHTTP2
		}
	}
}

func outlier(o *OutlierDetection) *resilience.Outlier {
	if o == nil {
		return nil
	}
	or := func(p *uint32, v uint32) uint32 {
		if p != nil {
			return *p
		}
		return v
	}
	out := &resilience.Outlier{
		Consecutive5xx:     or(o.Consecutive5xxErrors, 5), // Envoy's defaults, as Istio leaves them
		ConsecutiveGateway: or(o.ConsecutiveGatewayErrors, 0),
		SplitLocal:         o.SplitExternalLocalOriginErrors,
		ConsecutiveLocal:   or(o.ConsecutiveLocalOriginFailures, 5),
		Interval:           dur(o.Interval),
		BaseEjection:       dur(o.BaseEjectionTime),
		MaxEjection:        300 * time.Second,
		MaxEjectionPercent: uint32(o.MaxEjectionPercent),
		MinHealthPercent:   uint32(o.MinHealthPercent),
	}
	if out.Interval == 0 {
		out.Interval = 10 * time.Second
	}
	if out.BaseEjection == 0 {
		out.BaseEjection = 30 * time.Second
	}
	if out.MaxEjectionPercent == 0 {
		out.MaxEjectionPercent = 10
	}
	return out
}

func (r *build) loadBalancer(b *config.Backend, o *Object, l *LoadBalancer, failover bool) {
	if l == nil {
		if failover {
			r.prioritize(b, "failover")
		}
		return
	}
	switch l.Simple {
	case "ROUND_ROBIN":
		b.Balance.Kind = balance.RoundRobin
	case "RANDOM":
		b.Balance.Kind = balance.Random
	case "PASSTHROUGH":
		b.Balance.Kind = balance.Passthrough
	}
	if w := l.Warmup; w != nil {
		b.Balance.Warmup.Duration = dur(w.Duration)
		if w.MinimumPercent != nil {
			b.Balance.Warmup.MinPercent = *w.MinimumPercent
		}
		if w.Aggression != nil {
			b.Balance.Warmup.Aggression = *w.Aggression
		}
	} else if l.WarmupDurationSecs != nil {
		b.Balance.Warmup.Duration = dur(l.WarmupDurationSecs)
	}
	if h := l.ConsistentHash; h != nil {
		hashPolicy(&b.Balance, h)
	}
	s := l.LocalityLbSetting
	switch {
	case s == nil:
		if failover {
			r.prioritize(b, "failover")
		}
	case s.Enabled != nil && !*s.Enabled:
		r.flatten(b)
	case len(s.Distribute) > 0 || len(s.Failover) > 0:
		r.problem(config.Warning, o, "spec.trafficPolicy.loadBalancer.localityLbSetting", "NotApplied", "distribute and failover are not applied yet")
	case len(s.FailoverPriority) > 0 && failover:
		r.byLabels(b, s.FailoverPriority)
	case failover:
		r.prioritize(b, "failover")
	}
}

func hashPolicy(p *balance.Policy, h *ConsistentHash) {
	p.Kind = balance.RingHash
	p.RingMin = uint64(h.MinimumRingSize)
	if h.RingHash != nil {
		p.RingMin = uint64(h.RingHash.MinimumRingSize)
	}
	if h.Maglev != nil {
		p.Kind, p.TableSize = balance.Maglev, uint64(h.Maglev.TableSize)
	}
	switch c := h.HTTPCookie; {
	case h.HTTPHeaderName != "":
		p.Hash = []balance.HashSource{{Header: strings.ToLower(h.HTTPHeaderName)}}
	case c != nil:
		// Envoy makes the cookie where a ttl is given, also one of 0 s.
		p.Hash = []balance.HashSource{{Cookie: &balance.HashCookie{Name: c.Name, Path: c.Path, TTL: dur(c.TTL), Create: c.TTL != nil}}}
	case h.UseSourceIP:
		p.Hash = []balance.HashSource{{SourceIP: true}}
	case h.HTTPQueryParameterName != "":
		p.Hash = []balance.HashSource{{Query: h.HTTPQueryParameterName}}
	}
}

// prioritize sets the priority of endpoints by how near they are, in the order of
// Istio's locality failover and traffic distribution.
func (r *build) prioritize(b *config.Backend, distribution string) {
	own := r.opts.Locality
	if own.Region == "" && own.Zone == "" && r.opts.Node == "" {
		return
	}
	var near func(e *balance.Endpoint) uint32
	zone := func(e *balance.Endpoint) uint32 {
		switch {
		case e.Locality.Region != own.Region:
			return 2
		case e.Locality.Zone != own.Zone:
			return 1
		}
		return 0
	}
	switch distribution {
	case "PreferClose", "PreferSameZone":
		near = zone
	case "PreferSameNode":
		near = func(e *balance.Endpoint) uint32 {
			if w, ok := e.Workload.(*config.Workload); ok && w != nil && w.Node == r.opts.Node && r.opts.Node != "" {
				return 0
			}
			if n := zone(e); n > 0 || e.Locality.Subzone != own.Subzone {
				return n + 2
			}
			return 1
		}
	case "failover":
		near = func(e *balance.Endpoint) uint32 {
			if n := zone(e); n > 0 || e.Locality.Subzone != own.Subzone {
				return n + 1
			}
			return 0
		}
	default:
		return
	}
	for _, e := range b.Endpoints {
		e.Priority = near(e)
	}
	compact(b.Endpoints)
}

// byLabels gives an endpoint the priority of the first label in which it differs
// from this proxy. Only the topology labels of this proxy are known here.
func (r *build) byLabels(b *config.Backend, labels []string) {
	own := map[string]string{
		"topology.kubernetes.io/region": r.opts.Locality.Region,
		"topology.kubernetes.io/zone":   r.opts.Locality.Zone,
		"topology.istio.io/subzone":     r.opts.Locality.Subzone,
		"topology.istio.io/network":     r.mesh.Network,
		"kubernetes.io/hostname":        r.opts.Node,
	}
	for _, e := range b.Endpoints {
		has := map[string]string{
			"topology.kubernetes.io/region": e.Locality.Region,
			"topology.kubernetes.io/zone":   e.Locality.Zone,
			"topology.istio.io/subzone":     e.Locality.Subzone,
		}
		if w, ok := e.Workload.(*config.Workload); ok && w != nil {
			has["topology.istio.io/network"], has["kubernetes.io/hostname"] = w.Network, w.Node
		}
		e.Priority = uint32(len(labels))
		for i, l := range labels {
			k, want, fixed := strings.Cut(l, "=")
			if !fixed {
				want = own[k]
			}
			got, ok := has[k]
			if !ok {
				got = e.Labels[k]
			}
			if got != want {
				break
			}
			e.Priority = uint32(len(labels) - i - 1)
		}
	}
	compact(b.Endpoints)
}

func (r *build) flatten(b *config.Backend) {
	for _, e := range b.Endpoints {
		e.Priority = 0
	}
}

// compact closes gaps between priorities.
func compact(es []*balance.Endpoint) {
	used := map[uint32]bool{}
	for _, e := range es {
		used[e.Priority] = true
	}
	for _, e := range es {
		n := uint32(0)
		for p := range used {
			if p < e.Priority {
				n++
			}
		}
		e.Priority = n
	}
}
