package kube

import (
	"strings"
	"time"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/resilience"
	"waypoint.dev/waypoint/resilience/balance"
)

// applyRules puts the settings of the service's DestinationRule, of what else acts
// on it, and of its traffic distribution into a backend. sub is nil for the whole
// service.
func (r *build) applyRules(b *config.Backend, s *service, p *port, sub *Subset) {
	var t TrafficPolicy
	var o *Object
	if f := r.ruleOf(s); f != nil {
		o = f.obj
		t = effective(f.spec.TrafficPolicy, sub, p.number)
	}
	r.pool(b, &t.PortPolicy)
	b.Settings.Outlier = outlier(t.OutlierDetection)
	if t.OutlierDetection != nil {
		b.Balance.PanicThreshold = uint32(t.OutlierDetection.MinHealthPercent)
		if t.OutlierDetection.ConsecutiveErrors != 0 {
			r.problem(config.Warning, o, "spec.trafficPolicy.outlierDetection.consecutiveErrors", "NotApplied", "consecutiveErrors is ignored, as in Istio: use consecutive5xxErrors or consecutiveGatewayErrors")
		}
	}
	if b.Balance.Kind != balance.Passthrough {
		loadBalancer(b, t.LoadBalancer)
	}
	r.prioritize(b, r.localityRules(s, &t))
	b.Settings.RetryBudget = r.backendPolicies[s.obj.Key].budget
	if x := t.RetryBudget; x != nil {
		b.Settings.RetryBudget = retryBudget(x)
	}
	r.transport(b, o, s, &t)
	r.ownSettings(b, s)
	if n := len(b.Endpoints); b.Settings.Outlier != nil && n > 0 && !resilience.CanEverEject(n, b.Settings.Outlier) && b.Balance.Kind != balance.Passthrough {
		r.neverEjects(b, s, o)
	}
}

// neverEjects tells of outlier detection that is too weak for a pool's size.
func (r *build) neverEjects(b *config.Backend, s *service, o *Object) {
	if o == nil {
		o = s.obj
	}
	n, c := len(b.Endpoints), *b.Settings.Outlier
	c.MaxEjectionPercent = 100
	if !resilience.CanEverEject(n, &c) {
		r.problem(config.Warning, o, "spec.trafficPolicy.outlierDetection", "NeverEjects", "every kind of error is switched off, so it never ejects an endpoint of %s", b.Key)
		return
	}
	r.problem(config.Warning, o, "spec.trafficPolicy.outlierDetection.maxEjectionPercent", "NeverEjects",
		"%d%% of the %d endpoints of %s is less than one, so none is ever ejected: set maxEjectionPercent to at least %d, or outlierDetection.alwaysEjectOneHost in a WaypointPolicy",
		b.Settings.Outlier.MaxEjectionPercent, n, b.Key, (100+n-1)/n)
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
		st.TCPIdleTimeout = st.IdleTimeout
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

// outlier fills in the defaults that Istio leaves to Envoy: zero is literal in
// resilience.
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
		Consecutive5xx:     or(o.Consecutive5xxErrors, 5),
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
	out.MaxEjection = max(out.MaxEjection, out.BaseEjection)
	if out.MaxEjectionPercent == 0 {
		out.MaxEjectionPercent = 10
	}
	return out
}

// retryBudget fills in Istio's defaults.
func retryBudget(x *RetryBudget) *resilience.RetryBudget {
	out := &resilience.RetryBudget{Percent: 20, MinConcurrent: 3, Interval: dur(x.BudgetInterval)}
	if x.Percent != nil {
		out.Percent = *x.Percent
	}
	if x.MinRetryConcurrency != nil {
		out.MinConcurrent = *x.MinRetryConcurrency
	}
	return out
}

func loadBalancer(b *config.Backend, l *LoadBalancer) {
	if l == nil {
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
		k := &balance.HashCookie{Name: c.Name, Path: c.Path, TTL: dur(c.TTL), Create: c.TTL != nil}
		for _, a := range c.Attributes {
			k.Attributes = append(k.Attributes, balance.CookieAttribute{Name: a.Name, Value: a.Value})
		}
		p.Hash = []balance.HashSource{{Cookie: k}}
	case h.UseSourceIP:
		p.Hash = []balance.HashSource{{SourceIP: true}}
	case h.HTTPQueryParameterName != "":
		p.Hash = []balance.HashSource{{Query: h.HTTPQueryParameterName}}
	}
}

// transport applies what goes around the connection: TLS and the PROXY header.
// What cannot be done makes the backend answer 503: sending in the clear what was
// to be encrypted would be worse than failing.
func (r *build) transport(b *config.Backend, o *Object, s *service, t *TrafficPolicy) {
	refuse := func(field, what string) {
		if b.Missing == "" {
			b.Missing = "its DestinationRule " + o.Namespace + "/" + o.Name + " asks for " + what + ", which is not supported"
		}
		r.problem(config.Error, o, "spec.trafficPolicy."+field, "NotApplied", "%s is not supported; requests to %s answer 503", what, b.Key)
	}
	if t.Tunnel != nil {
		refuse("tunnel", "a tunnel through another proxy")
	}
	if x := t.ProxyProtocol; x != nil {
		if b.ProxyProto = 1; x.Version == "V2" {
			b.ProxyProto = 2
		}
		if !r.opts.UpstreamTLS {
			refuse("proxyProtocol", "the PROXY protocol")
		}
	}
	x := t.TLS
	if x == nil || x.Mode != "SIMPLE" && x.Mode != "MUTUAL" {
		return // DISABLE and ISTIO_MUTUAL change nothing: HBONE is there anyway
	}
	u := &config.UpstreamTLS{
		SNI: x.SNI, SANs: x.SubjectAltNames, CA: x.CACertificates, CRL: x.CACRL,
		SkipVerify: x.InsecureSkipVerify != nil && *x.InsecureSkipVerify,
	}
	if u.CA == "" {
		u.CA = "system"
	}
	if len(u.SANs) == 0 && s.entry != nil {
		u.SANs = s.entry.SubjectAltNames
	}
	if x.Mode == "MUTUAL" {
		u.Cert, u.Key = x.ClientCertificate, x.PrivateKey
	}
	switch b.Protocol {
	case config.ProtocolHTTP2:
		u.ALPN = []string{"h2"}
	case config.ProtocolHTTP:
		u.ALPN = []string{"http/1.1"}
	}
	b.TLS = u
	switch {
	case x.CredentialName != "":
		refuse("tls.credentialName", "a certificate from a secret; use files")
	case !r.opts.UpstreamTLS:
		refuse("tls", "TLS "+x.Mode)
	}
}
