package kube

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"sigs.k8s.io/yaml"

	"waypoint.dev/waypoint/authz/extauthz"
	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/resilience"
)

// MeshConfig is the part of Istio's meshConfig that is read: the key mesh of the
// ConfigMap istio in the root namespace. The rest is for istiod and sidecars.
type MeshConfig struct {
	TrustDomain        string              `json:"trustDomain"`
	TrustDomainAliases []string            `json:"trustDomainAliases"`
	ExtensionProviders []ExtensionProvider `json:"extensionProviders"`
	PathNormalization  *struct {
		Normalization string `json:"normalization"`
	} `json:"pathNormalization"`
	DefaultHTTPRetryPolicy *struct {
		Attempts              *int32    `json:"attempts"`
		PerTryTimeout         *Duration `json:"perTryTimeout"`
		RetryOn               string    `json:"retryOn"`
		RetryRemoteLocalities *bool     `json:"retryRemoteLocalities"`
		Backoff               *Duration `json:"backoff"`
	} `json:"defaultHttpRetryPolicy"`
	LocalityLbSetting *LocalityLB `json:"localityLbSetting"`
}

// ExtensionProvider is one of meshConfig.extensionProviders.
type ExtensionProvider struct {
	Name string         `json:"name"`
	GRPC *AuthzProvider `json:"envoyExtAuthzGrpc"`
	HTTP *AuthzProvider `json:"envoyExtAuthzHttp"`
}

// AuthzProvider is an external authorizer of either kind.
type AuthzProvider struct {
	Service         string    `json:"service"`
	Port            uint32    `json:"port"`
	Timeout         *Duration `json:"timeout"`
	FailOpen        bool      `json:"failOpen"`
	StatusOnError   string    `json:"statusOnError"`
	ClearRouteCache bool      `json:"clearRouteCache"`
	PathPrefix      string    `json:"pathPrefix"`

	IncludeRequestHeaders     []string          `json:"includeRequestHeadersInCheck"`
	IncludeHeaders            []string          `json:"includeHeadersInCheck"` // its deprecated name
	IncludeAdditionalHeaders  map[string]string `json:"includeAdditionalHeadersInCheck"`
	HeadersToUpstreamOnAllow  []string          `json:"headersToUpstreamOnAllow"`
	HeadersToDownstreamDeny   []string          `json:"headersToDownstreamOnDeny"`
	HeadersToDownstreamAllow  []string          `json:"headersToDownstreamOnAllow"`
	IncludeRequestBodyInCheck *struct {
		MaxRequestBytes     uint32 `json:"maxRequestBytes"`
		AllowPartialMessage bool   `json:"allowPartialMessage"`
		PackAsBytes         bool   `json:"packAsBytes"`
	} `json:"includeRequestBodyInCheck"`
}

var normalizations = map[string]config.Normalization{
	"DEFAULT": config.NormalizeBase, "BASE": config.NormalizeBase, "NONE": config.NormalizeNone,
	"MERGE_SLASHES": config.NormalizeMergeSlashes, "DECODE_AND_MERGE_SLASHES": config.NormalizeDecodeAndMergeSlashes,
}

// decodeConfigMap reads the mesh configuration; other ConfigMaps have no body.
func decodeConfigMap(raw []byte) (any, error) {
	var o struct {
		Metadata struct {
			Name string `json:"name"`
		} `json:"metadata"`
		Data map[string]string `json:"data"`
	}
	if err := json.Unmarshal(raw, &o); err != nil {
		return nil, Fields{{"", err.Error()}}
	}
	text, ok := o.Data["mesh"]
	if o.Metadata.Name != "istio" || !ok {
		return nil, nil
	}
	m := new(MeshConfig)
	if err := yaml.Unmarshal([]byte(text), m); err != nil {
		return nil, Fields{{"data.mesh", plain(err)}}
	}
	var r report
	m.check(&r)
	return m, r.err()
}

func (m *MeshConfig) check(r *report) {
	if p := m.PathNormalization; p != nil && p.Normalization != "" {
		if _, ok := normalizations[p.Normalization]; !ok {
			r.addf("data.mesh: pathNormalization.normalization", "%q is not known", p.Normalization)
		}
	}
	m.LocalityLbSetting.check(r, "data.mesh: localityLbSetting")
	if x := m.DefaultHTTPRetryPolicy; x != nil {
		if _, _, unknown := resilience.ParseRetryOn(x.RetryOn); len(unknown) > 0 {
			r.addf("data.mesh: defaultHttpRetryPolicy.retryOn", "%q is no condition", unknown[0])
		}
		if x.Attempts != nil && *x.Attempts < 0 {
			r.addf("data.mesh: defaultHttpRetryPolicy.attempts", "must not be negative")
		}
	}
	seen := map[string]bool{}
	for i := range m.ExtensionProviders {
		e, p := &m.ExtensionProviders[i], at("data.mesh: extensionProviders", i)
		if e.Name == "" || seen[e.Name] {
			r.addf(p+".name", "required and unique")
		}
		seen[e.Name] = true
		if x := e.authz(); x != nil {
			if x.Service == "" || x.Port < 1 || x.Port > 65535 {
				r.addf(p, "service and port are required")
			}
			if x.StatusOnError != "" && statusOf(x.StatusOnError) == 0 {
				r.addf(p+".statusOnError", "%q is no HTTP status", x.StatusOnError)
			}
		}
	}
}

func (e *ExtensionProvider) authz() *AuthzProvider {
	if e.GRPC != nil {
		return e.GRPC
	}
	return e.HTTP
}

// statusOf reads a status code; 0 for none.
func statusOf(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil || n < 200 || n > 599 {
		return 0
	}
	return n
}

// readMesh takes over the mesh configuration, if it is among the objects. What it
// says replaces the options.
func (r *build) readMesh() {
	o := r.objs.Get(Key{"", "ConfigMap", r.mesh.RootNamespace, "istio"})
	if o == nil {
		return
	}
	m, ok := o.Body.(*MeshConfig)
	if !ok {
		return
	}
	if m.TrustDomain != "" && m.TrustDomain != r.mesh.TrustDomain {
		r.problem(config.Warning, o, "data.mesh: trustDomain", "TrustDomain", "%q differs from this waypoint's trust domain %q, which is taken for an alias", m.TrustDomain, r.mesh.TrustDomain)
		r.mesh.TrustAliases = append(slices.Clone(r.mesh.TrustAliases), r.mesh.TrustDomain)
		r.mesh.TrustDomain = m.TrustDomain
	}
	for _, a := range m.TrustDomainAliases {
		if !slices.Contains(r.mesh.TrustAliases, a) {
			r.mesh.TrustAliases = append(slices.Clone(r.mesh.TrustAliases), a)
		}
	}
	if p := m.PathNormalization; p != nil && p.Normalization != "" {
		r.mesh.Normalization = normalizations[p.Normalization]
	}
	r.meshLocality = m.LocalityLbSetting
	if x := m.DefaultHTTPRetryPolicy; x != nil {
		p := *resilience.DefaultRetry()
		if x.Attempts != nil {
			p.Attempts = int(*x.Attempts)
		}
		if x.RetryOn != "" {
			p.On, p.Codes, _ = resilience.ParseRetryOn(x.RetryOn)
		}
		p.TryTimeout, p.Backoff = dur(x.PerTryTimeout), dur(x.Backoff)
		if x.RetryRemoteLocalities != nil && *x.RetryRemoteLocalities {
			p.RemoteLocalities = 2 // Istio's update frequency of previous_priorities
		}
		r.meshRetry = &p
	}
	r.providers = map[string]*ExtensionProvider{}
	for i := range m.ExtensionProviders {
		r.providers[m.ExtensionProviders[i].Name] = &m.ExtensionProviders[i]
	}
	r.meshObj = o
}

// provider makes the settings of an external authorizer. An error means that nobody
// can be asked.
func (r *build) provider(name string) (*extauthz.Config, error) {
	e := r.providers[name]
	if e == nil {
		return nil, fmt.Errorf("extension provider %q is not in the mesh configuration (ConfigMap %s/istio, key mesh)", name, r.mesh.RootNamespace)
	}
	x := e.authz()
	if x == nil {
		return nil, fmt.Errorf("extension provider %q is no external authorizer", name)
	}
	host := x.Service
	ns, h, ok := strings.Cut(host, "/")
	if ok {
		host = h
	} else {
		ns = ""
	}
	s := r.findHost(host, ns)
	if s == nil && strings.Count(host, ".") == 1 {
		s = r.findHost(host+".svc."+r.mesh.Domain, ns) // "name.namespace"
	}
	if s == nil {
		return nil, fmt.Errorf("service %q of extension provider %q does not exist", x.Service, name)
	}
	p := s.port(int32(x.Port))
	if p == nil {
		return nil, fmt.Errorf("service %q of extension provider %q has no TCP port %d", x.Service, name, x.Port)
	}
	c := &extauthz.Config{
		Name: name, Backend: r.backend(s, p), Timeout: dur(x.Timeout), FailOpen: x.FailOpen,
		StatusOnError: statusOf(x.StatusOnError), ClearRouteCache: x.ClearRouteCache,
	}
	if b := x.IncludeRequestBodyInCheck; b != nil && b.MaxRequestBytes > 0 {
		c.Body = &extauthz.Body{MaxBytes: int(b.MaxRequestBytes), Partial: b.AllowPartialMessage, AsBytes: b.PackAsBytes}
	}
	include := patterns(append(slices.Clone(x.IncludeRequestHeaders), x.IncludeHeaders...))
	if e.GRPC != nil {
		c.GRPC = &extauthz.GRPC{IncludeHeaders: include}
		return c, nil
	}
	c.HTTP = &extauthz.HTTP{
		Authority: s.host, PathPrefix: x.PathPrefix, IncludeHeaders: include,
		UpstreamOnAllow:   patterns(x.HeadersToUpstreamOnAllow),
		DownstreamOnAllow: patterns(x.HeadersToDownstreamAllow),
		DownstreamOnDeny:  patterns(x.HeadersToDownstreamDeny),
	}
	for k, v := range x.IncludeAdditionalHeaders {
		c.HTTP.AdditionalHeaders = append(c.HTTP.AdditionalHeaders, extauthz.Header{Name: strings.ToLower(k), Value: v})
	}
	slices.SortFunc(c.HTTP.AdditionalHeaders, func(a, b extauthz.Header) int { return strings.Compare(a.Name, b.Name) })
	return c, nil
}

// providerHosts are the hosts that an extension provider's service may mean.
func providerHosts(service, domain string) []string {
	host := service
	if _, h, ok := strings.Cut(service, "/"); ok {
		host = h
	}
	out := []string{strings.ToLower(strings.TrimSuffix(host, "."))}
	if strings.Count(host, ".") == 1 {
		out = append(out, strings.ToLower(host+".svc."+domain)) // "name.namespace"
	}
	return out
}

func patterns(ss []string) (out []extauthz.Pattern) {
	for _, s := range ss {
		out = append(out, extauthz.ParsePattern(strings.ToLower(s)))
	}
	return out
}
