package envoy

import "fmt"

// World is a set of services with routes and policies that the generator made. It
// exists in two forms that mean the same: the resources that istiod would send
// for it (resources of world_envoy.go) and its Kubernetes objects (world_kube.go).
type World struct {
	Namespace string
	Backends  []string // services that routes send to; each has one pod of its name
	Subjects  []*Subject
	Providers []Provider // external authorizers
	JWKS      string     // the keys of all issuers
}

// Subject is one service that is asked about. Without backends in its rules its
// own pod answers, which all subjects share.
type Subject struct {
	Name     string
	Kind     string // of its questions
	Index    int    // gives its address
	Norm     string // NONE, BASE, MERGE_SLASHES, DECODE_AND_MERGE_SLASHES
	HTTP2    bool   // the port is declared h2c
	TCP      bool   // the port is declared tcp
	Direct   bool   // its questions show the oracle the client's address
	Pods     string // "none": no endpoint, "down": one where nothing listens; else the pod of all subjects
	Pool     Pool
	Manager  Object // further fields of its connection manager; nil: none. What only Istio's ProxyConfig can say
	Formats  bool   // its header edits have command operators, which HTTPRoute has not
	Quiet    bool   // its router writes no x-envoy headers
	Routes   []RouteRule
	Policies []Policy
	JWT      []JWTRule
}

// Pool is a DestinationRule's connectionPool. 0 is no limit.
type Pool struct{ MaxConnections, MaxPending, MaxRequests, MaxRetries int }

// VIP is the subject's address.
func (s *Subject) VIP() string { return fmt.Sprintf("10.97.%d.%d", 1+s.Index/200, 1+s.Index%200) }

// Authority is what tunnels to it ask for.
func (s *Subject) Authority() string { return fmt.Sprint(s.VIP(), ":", s.port()) }

func (s *Subject) port() int {
	if s.TCP {
		return 5432
	}
	return 80
}

// cluster is the name of its cluster and chain.
func (s *Subject) cluster(ns string) string {
	if s.TCP {
		return "inbound-vip|5432|tcp|" + s.Host(ns)
	}
	return clusterName(s.Host(ns))
}

// Host is its DNS name.
func (s *Subject) Host(ns string) string { return s.Name + "." + ns + ".svc.cluster.local" }

// RouteRule is one rule of an HTTPRoute; all rules of a subject are one route.
type RouteRule struct {
	Name     string
	Matches  []RouteMatch
	Request  HeaderOps
	Response HeaderOps
	Rewrite  *Rewrite
	Redirect *Redirect
	CORS     *CORS
	Backends []WeightedBackend // empty with a redirect

	Retry   *Retry
	Timeout string // of the request, as protojson writes durations
	Abort   *Abort
}

// Retry of a rule. Beyond Attempts, PerTry and Codes only Istio can say it, so a
// world with them has no Kubernetes form.
type Retry struct {
	On              string // tokens; empty: istiod's default
	Codes           []int
	Attempts        int
	PerTry, Backoff string // durations as protojson writes them
}

// Abort answers every request by itself: a fault of 100 %.
type Abort struct{ Status, GRPC int }

// JWTRule is one of a RequestAuthentication.
type JWTRule struct {
	Issuer                  string
	Audiences               []string
	FromHeaders             [][2]string // name, prefix
	FromParams, FromCookies []string
	Forward                 bool
	PayloadHeader           string
	ClaimHeaders            [][2]string // header, claim
}

// Provider is an external authorizer of meshConfig.extensionProviders. It is the
// pod that [World.authorizer] names.
type Provider struct {
	Name          string
	GRPC          bool
	Where         string // up, down: nothing listens, empty: no endpoint
	Timeout       string // as protojson writes it
	FailOpen      bool
	StatusOnError int
	PathPrefix    string

	IncludeHeaders                                       []string
	AddHeaders                                           [][2]string
	UpstreamOnAllow, DownstreamOnAllow, DownstreamOnDeny []string
	MaxBody                                              int
	PartialBody, BodyAsBytes                             bool
}

// RouteMatch is one HTTPRouteMatch.
type RouteMatch struct {
	PathKind string // Exact, PathPrefix, RegularExpression; empty: any
	Path     string
	Method   string
	Headers  []ValueMatch
	Query    []ValueMatch
}

// ValueMatch compares one header or parameter.
type ValueMatch struct {
	Name, Value string
	Regex       bool
}

// HeaderOps edit headers.
type HeaderOps struct {
	Set, Add [][2]string
	Remove   []string
}

func (h *HeaderOps) empty() bool { return len(h.Set)+len(h.Add)+len(h.Remove) == 0 }

// Rewrite of path and host. Full and Prefix are exclusive.
type Rewrite struct {
	Host         string
	Full, Prefix *string
}

// Redirect answers with a location.
type Redirect struct {
	Scheme, Host string
	Port, Status int
	Full, Prefix *string
}

// CORS of one rule.
type CORS struct {
	Origins, Methods, Headers, Expose []string
	Credentials                       bool
	MaxAge                            int
}

// WeightedBackend is one of World.Backends, or "missing", which does not exist.
type WeightedBackend struct {
	Name              string
	Weight            int
	Request, Response HeaderOps
}

// Policy is one AuthorizationPolicy of a subject.
type Policy struct {
	Name, Action string // ALLOW, DENY, AUDIT, CUSTOM
	Provider     string // of CUSTOM
	Rules        []PolicyRule
}

// PolicyRule is one rule.
type PolicyRule struct {
	From []Fields // each: principals, namespaces, serviceAccounts, trustDomains, requestPrincipals, ipBlocks, remoteIpBlocks and their not twins
	To   []Fields // each: hosts, ports, methods, paths and their not twins
	When []Condition
}

// Fields are a source or an operation: lists by name, "notPaths" among them.
type Fields map[string][]string

// Condition is one of when.
type Condition struct {
	Key               string
	Values, NotValues []string
}
