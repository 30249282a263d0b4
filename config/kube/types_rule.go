package kube

import "math/big"

// DestinationRule is networking.istio.io DestinationRule.
type DestinationRule struct {
	Host             string         `json:"host"`
	TrafficPolicy    *TrafficPolicy `json:"trafficPolicy"`
	Subsets          []Subset       `json:"subsets"`
	ExportTo         []string       `json:"exportTo"`
	WorkloadSelector *struct {
		MatchLabels map[string]string `json:"matchLabels"`
	} `json:"workloadSelector"`
}

// Subset is a part of a service's endpoints.
type Subset struct {
	Name          string            `json:"name"`
	Labels        map[string]string `json:"labels"`
	TrafficPolicy *TrafficPolicy    `json:"trafficPolicy"`
}

// PortPolicy is a traffic policy without its port levels.
type PortPolicy struct {
	LoadBalancer     *LoadBalancer     `json:"loadBalancer"`
	ConnectionPool   *ConnectionPool   `json:"connectionPool"`
	OutlierDetection *OutlierDetection `json:"outlierDetection"`
	TLS              *ClientTLS        `json:"tls"`
}

// TrafficPolicy is trafficPolicy.
type TrafficPolicy struct {
	PortPolicy
	PortLevelSettings []struct {
		Port struct {
			Number uint32 `json:"number"`
		} `json:"port"`
		PortPolicy
	} `json:"portLevelSettings"`
	Tunnel        any `json:"tunnel"`
	ProxyProtocol *struct {
		Version string `json:"version"`
	} `json:"proxyProtocol"`
	RetryBudget *RetryBudget `json:"retryBudget"`
}

// RetryBudget is retryBudget.
type RetryBudget struct {
	Percent             *float64  `json:"percent"`
	MinRetryConcurrency *uint32   `json:"minRetryConcurrency"`
	BudgetInterval      *Duration `json:"budgetInterval"`
}

// ClientTLS is tls.
type ClientTLS struct {
	Mode               string   `json:"mode"`
	ClientCertificate  string   `json:"clientCertificate"`
	PrivateKey         string   `json:"privateKey"`
	CACertificates     string   `json:"caCertificates"`
	CredentialName     string   `json:"credentialName"`
	SubjectAltNames    []string `json:"subjectAltNames"`
	SNI                string   `json:"sni"`
	InsecureSkipVerify *bool    `json:"insecureSkipVerify"`
	CACRL              string   `json:"caCrl"`
}

// LoadBalancer is loadBalancer.
type LoadBalancer struct {
	Simple             string          `json:"simple"`
	ConsistentHash     *ConsistentHash `json:"consistentHash"`
	LocalityLbSetting  *LocalityLB     `json:"localityLbSetting"`
	WarmupDurationSecs *Duration       `json:"warmupDurationSecs"`
	Warmup             *struct {
		Duration       *Duration `json:"duration"`
		MinimumPercent *float64  `json:"minimumPercent"`
		Aggression     *float64  `json:"aggression"`
	} `json:"warmup"`
}

// ConsistentHash is loadBalancer.consistentHash.
type ConsistentHash struct {
	HTTPHeaderName string `json:"httpHeaderName"`
	HTTPCookie     *struct {
		Name       string    `json:"name"`
		Path       string    `json:"path"`
		TTL        *Duration `json:"ttl"`
		Attributes []struct {
			Name  string `json:"name"`
			Value string `json:"value"`
		} `json:"attributes"`
	} `json:"httpCookie"`
	UseSourceIP            bool   `json:"useSourceIp"`
	HTTPQueryParameterName string `json:"httpQueryParameterName"`
	MinimumRingSize        uint32 `json:"minimumRingSize"`
	RingHash               *struct {
		MinimumRingSize uint32 `json:"minimumRingSize"`
	} `json:"ringHash"`
	Maglev *struct {
		TableSize uint32 `json:"tableSize"`
	} `json:"maglev"`
}

// ConnectionPool is connectionPool.
type ConnectionPool struct {
	TCP *struct {
		MaxConnections        int32     `json:"maxConnections"`
		ConnectTimeout        *Duration `json:"connectTimeout"`
		IdleTimeout           *Duration `json:"idleTimeout"`
		MaxConnectionDuration *Duration `json:"maxConnectionDuration"`
		TCPKeepalive          any       `json:"tcpKeepalive"`
	} `json:"tcp"`
	HTTP *struct {
		HTTP1MaxPendingRequests  int32     `json:"http1MaxPendingRequests"`
		HTTP2MaxRequests         int32     `json:"http2MaxRequests"`
		MaxRequestsPerConnection int32     `json:"maxRequestsPerConnection"`
		MaxRetries               int32     `json:"maxRetries"`
		IdleTimeout              *Duration `json:"idleTimeout"`
		H2UpgradePolicy          string    `json:"h2UpgradePolicy"`
		UseClientProtocol        bool      `json:"useClientProtocol"`
		MaxConcurrentStreams     int32     `json:"maxConcurrentStreams"`
		HTTP2Keepalive           any       `json:"http2Keepalive"`
	} `json:"http"`
}

// OutlierDetection is outlierDetection.
type OutlierDetection struct {
	ConsecutiveErrors              int32     `json:"consecutiveErrors"`
	SplitExternalLocalOriginErrors bool      `json:"splitExternalLocalOriginErrors"`
	ConsecutiveLocalOriginFailures *uint32   `json:"consecutiveLocalOriginFailures"`
	ConsecutiveGatewayErrors       *uint32   `json:"consecutiveGatewayErrors"`
	Consecutive5xxErrors           *uint32   `json:"consecutive5xxErrors"`
	Interval                       *Duration `json:"interval"`
	BaseEjectionTime               *Duration `json:"baseEjectionTime"`
	MaxEjectionPercent             int32     `json:"maxEjectionPercent"`
	MinHealthPercent               int32     `json:"minHealthPercent"`
}

func (d *DestinationRule) fill() {}

func (d *DestinationRule) check(r *report) {
	if d.Host == "" {
		r.addf("spec.host", "required")
	}
	d.TrafficPolicy.check(r, "spec.trafficPolicy")
	seen := map[string]bool{}
	for i := range d.Subsets {
		s, p := &d.Subsets[i], at("spec.subsets", i)
		if s.Name == "" || seen[s.Name] {
			r.addf(p+".name", "required and unique")
		}
		seen[s.Name] = true
		s.TrafficPolicy.check(r, p+".trafficPolicy")
	}
}

func (t *TrafficPolicy) check(r *report, p string) {
	if t == nil {
		return
	}
	t.PortPolicy.check(r, p)
	for i := range t.PortLevelSettings {
		s, q := &t.PortLevelSettings[i], at(p+".portLevelSettings", i)
		if s.Port.Number < 1 || s.Port.Number > 65535 {
			r.addf(q+".port.number", "is not between 1 and 65535")
		}
		s.PortPolicy.check(r, q)
	}
	if x := t.ProxyProtocol; x != nil && x.Version != "" {
		oneOf(r, p+".proxyProtocol.version", x.Version, "V1", "V2")
	}
	if b := t.RetryBudget; b != nil && b.Percent != nil && (*b.Percent < 0 || *b.Percent > 100) {
		r.addf(p+".retryBudget.percent", "is not between 0 and 100")
	}
}

func (t *PortPolicy) check(r *report, p string) {
	if l := t.LoadBalancer; l != nil {
		if l.Simple != "" {
			oneOf(r, p+".loadBalancer.simple", l.Simple, "UNSPECIFIED", "LEAST_CONN", "RANDOM", "PASSTHROUGH", "ROUND_ROBIN", "LEAST_REQUEST")
		}
		if l.Simple != "" && l.ConsistentHash != nil {
			r.addf(p+".loadBalancer", "only one of simple and consistentHash can be set")
		}
		if h := l.ConsistentHash; h != nil {
			n := 0
			for _, set := range []bool{h.HTTPHeaderName != "", h.HTTPCookie != nil, h.UseSourceIP, h.HTTPQueryParameterName != ""} {
				if set {
					n++
				}
			}
			if n != 1 {
				r.addf(p+".loadBalancer.consistentHash", "exactly one hash key must be set")
			}
			if h.RingHash != nil && h.Maglev != nil {
				r.addf(p+".loadBalancer.consistentHash", "only one of ringHash and maglev can be set")
			}
			if h.HTTPCookie != nil && h.HTTPCookie.Name == "" {
				r.addf(p+".loadBalancer.consistentHash.httpCookie.name", "required")
			}
			if h.Maglev != nil && h.Maglev.TableSize != 0 && !big.NewInt(int64(h.Maglev.TableSize)).ProbablyPrime(0) {
				r.addf(p+".loadBalancer.consistentHash.maglev.tableSize", "%d is no prime number", h.Maglev.TableSize)
			}
		}
	}
	if l := t.LoadBalancer; l != nil {
		l.LocalityLbSetting.check(r, p+".loadBalancer.localityLbSetting")
	}
	if o := t.OutlierDetection; o != nil {
		if dur(o.Interval) < 0 || dur(o.BaseEjectionTime) < 0 {
			r.addf(p+".outlierDetection", "durations must not be negative")
		}
		if o.MaxEjectionPercent < 0 || o.MaxEjectionPercent > 100 || o.MinHealthPercent < 0 || o.MinHealthPercent > 100 {
			r.addf(p+".outlierDetection", "percentages are between 0 and 100")
		}
	}
	if c := t.ConnectionPool; c != nil {
		if c.TCP == nil && c.HTTP == nil {
			r.addf(p+".connectionPool", "must have http or tcp")
		}
		if c.HTTP != nil {
			if c.HTTP.H2UpgradePolicy != "" {
				oneOf(r, p+".connectionPool.http.h2UpgradePolicy", c.HTTP.H2UpgradePolicy, "DEFAULT", "DO_NOT_UPGRADE", "UPGRADE")
			}
			if min(c.HTTP.HTTP1MaxPendingRequests, c.HTTP.HTTP2MaxRequests, c.HTTP.MaxRequestsPerConnection, c.HTTP.MaxRetries, c.HTTP.MaxConcurrentStreams) < 0 {
				r.addf(p+".connectionPool.http", "limits must not be negative")
			}
		}
		if c.TCP != nil && c.TCP.MaxConnections < 0 {
			r.addf(p+".connectionPool.tcp.maxConnections", "must not be negative")
		}
		if c.TCP != nil && min(dur(c.TCP.ConnectTimeout), dur(c.TCP.IdleTimeout), dur(c.TCP.MaxConnectionDuration)) < 0 {
			r.addf(p+".connectionPool.tcp", "durations must not be negative")
		}
	}
	if t.TLS != nil {
		if t.TLS.Mode != "" { // DISABLE is its default
			oneOf(r, p+".tls.mode", t.TLS.Mode, "DISABLE", "SIMPLE", "MUTUAL", "ISTIO_MUTUAL")
		}
		if x := t.TLS; x.Mode == "MUTUAL" && x.CredentialName == "" && (x.ClientCertificate == "" || x.PrivateKey == "") {
			r.addf(p+".tls", "MUTUAL needs clientCertificate and privateKey")
		}
	}
}
