package kube

// ParentRef is what a route attaches to.
type ParentRef struct {
	Group       *string `json:"group"`
	Kind        *string `json:"kind"`
	Namespace   *string `json:"namespace"`
	Name        string  `json:"name"`
	SectionName *string `json:"sectionName"`
	Port        *int32  `json:"port"`
}

// BackendObject names a backend.
type BackendObject struct {
	Group     *string `json:"group"`
	Kind      *string `json:"kind"`
	Name      string  `json:"name"`
	Namespace *string `json:"namespace"`
	Port      *int32  `json:"port"`
}

// HTTPRoute is the spec of a Gateway API HTTPRoute.
type HTTPRoute struct {
	ParentRefs         []ParentRef `json:"parentRefs"`
	UseDefaultGateways any         `json:"useDefaultGateways"`
	Hostnames          []string    `json:"hostnames"`
	Rules              []HTTPRule  `json:"rules"`
}

// HTTPRule is one rule of an HTTPRoute.
type HTTPRule struct {
	Name               *string             `json:"name"`
	Matches            []HTTPMatch         `json:"matches"`
	Filters            []Filter            `json:"filters"`
	BackendRefs        []BackendRef        `json:"backendRefs"`
	Timeouts           *RouteTimeouts      `json:"timeouts"`
	Retry              *RouteRetry         `json:"retry"`
	SessionPersistence *SessionPersistence `json:"sessionPersistence"`
}

// HTTPMatch is one match of an HTTPRoute.
type HTTPMatch struct {
	Path        *PathMatch   `json:"path"`
	Headers     []ValueMatch `json:"headers"`
	QueryParams []ValueMatch `json:"queryParams"`
	Method      *string      `json:"method"`
}

// PathMatch is matches.path.
type PathMatch struct {
	Type  *string `json:"type"`
	Value *string `json:"value"`
}

// ValueMatch is a header or query parameter match.
type ValueMatch struct {
	Type  *string `json:"type"`
	Name  string  `json:"name"`
	Value string  `json:"value"`
}

// BackendRef is a weighted backend of an HTTP or gRPC rule.
type BackendRef struct {
	BackendObject
	Weight  *int32   `json:"weight"`
	Filters []Filter `json:"filters"`
}

// Filter is one filter of an HTTP or gRPC rule.
type Filter struct {
	Type                   string          `json:"type"`
	RequestHeaderModifier  *HeaderFilter   `json:"requestHeaderModifier"`
	ResponseHeaderModifier *HeaderFilter   `json:"responseHeaderModifier"`
	RequestMirror          *MirrorFilter   `json:"requestMirror"`
	RequestRedirect        *RedirectFilter `json:"requestRedirect"`
	URLRewrite             *RewriteFilter  `json:"urlRewrite"`
	CORS                   *CORSFilter     `json:"cors"`
	ExternalAuth           any             `json:"externalAuth"`
	ExtensionRef           any             `json:"extensionRef"`
}

// HeaderFilter edits headers.
type HeaderFilter struct {
	Set    []HeaderValue `json:"set"`
	Add    []HeaderValue `json:"add"`
	Remove []string      `json:"remove"`
}

// HeaderValue is one header.
type HeaderValue struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// MirrorFilter copies requests.
type MirrorFilter struct {
	BackendRef BackendObject `json:"backendRef"`
	Percent    *int32        `json:"percent"`
	Fraction   *struct {
		Numerator   int32  `json:"numerator"`
		Denominator *int32 `json:"denominator"`
	} `json:"fraction"`
}

// PathModifier is the path of a redirect or rewrite.
type PathModifier struct {
	Type               string  `json:"type"`
	ReplaceFullPath    *string `json:"replaceFullPath"`
	ReplacePrefixMatch *string `json:"replacePrefixMatch"`
}

// RedirectFilter answers with a Location.
type RedirectFilter struct {
	Scheme     *string       `json:"scheme"`
	Hostname   *string       `json:"hostname"`
	Path       *PathModifier `json:"path"`
	Port       *int32        `json:"port"`
	StatusCode *int32        `json:"statusCode"`
}

// RewriteFilter changes host and path.
type RewriteFilter struct {
	Hostname *string       `json:"hostname"`
	Path     *PathModifier `json:"path"`
}

// CORSFilter answers preflights.
type CORSFilter struct {
	AllowOrigins     []string `json:"allowOrigins"`
	AllowCredentials *bool    `json:"allowCredentials"`
	AllowMethods     []string `json:"allowMethods"`
	AllowHeaders     []string `json:"allowHeaders"`
	ExposeHeaders    []string `json:"exposeHeaders"`
	MaxAge           *int32   `json:"maxAge"`
}

// RouteTimeouts are those of a rule.
type RouteTimeouts struct {
	Request        *string `json:"request"`
	BackendRequest *string `json:"backendRequest"`
}

// RouteRetry is GEP-1731's retry.
type RouteRetry struct {
	Codes    []int32 `json:"codes"`
	Attempts *int32  `json:"attempts"`
	Backoff  *string `json:"backoff"`
}

// SessionPersistence is GEP-1619's.
type SessionPersistence struct {
	SessionName     *string `json:"sessionName"`
	AbsoluteTimeout *string `json:"absoluteTimeout"`
	IdleTimeout     *string `json:"idleTimeout"`
	Type            *string `json:"type"`
	CookieConfig    *struct {
		LifetimeType *string `json:"lifetimeType"`
	} `json:"cookieConfig"`
}

// GRPCRoute is the spec of a Gateway API GRPCRoute.
type GRPCRoute struct {
	ParentRefs         []ParentRef `json:"parentRefs"`
	UseDefaultGateways any         `json:"useDefaultGateways"`
	Hostnames          []string    `json:"hostnames"`
	Rules              []GRPCRule  `json:"rules"`
}

// GRPCRule is one rule of a GRPCRoute.
type GRPCRule struct {
	Name               *string             `json:"name"`
	Matches            []GRPCMatch         `json:"matches"`
	Filters            []Filter            `json:"filters"`
	BackendRefs        []BackendRef        `json:"backendRefs"`
	SessionPersistence *SessionPersistence `json:"sessionPersistence"`
}

// GRPCMatch is one match of a GRPCRoute.
type GRPCMatch struct {
	Method *struct {
		Type    *string `json:"type"`
		Service *string `json:"service"`
		Method  *string `json:"method"`
	} `json:"method"`
	Headers []ValueMatch `json:"headers"`
}

// L4Rule is one rule of a TCPRoute or TLSRoute.
type L4Rule struct {
	Name        *string `json:"name"`
	BackendRefs []struct {
		BackendObject
		Weight *int32 `json:"weight"`
	} `json:"backendRefs"`
}

// TCPRoute is the spec of a Gateway API TCPRoute.
type TCPRoute struct {
	ParentRefs         []ParentRef `json:"parentRefs"`
	UseDefaultGateways any         `json:"useDefaultGateways"`
	Rules              []L4Rule    `json:"rules"`
}

// TLSRoute is the spec of a Gateway API TLSRoute.
type TLSRoute struct {
	ParentRefs         []ParentRef `json:"parentRefs"`
	UseDefaultGateways any         `json:"useDefaultGateways"`
	Hostnames          []string    `json:"hostnames"`
	Rules              []L4Rule    `json:"rules"`
}
