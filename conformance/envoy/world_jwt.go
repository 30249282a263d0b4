package envoy

import (
	"fmt"
	"strings"
)

// jwtFilters is jwt_authn as istiod writes it for the issuers of a subject; none
// without issuers.
func (w *World) jwtFilters(s *Subject) []any {
	if len(s.JWT) == 0 {
		return nil
	}
	providers := Object{}
	var each, missing []any
	for i, r := range s.JWT {
		name := fmt.Sprint("origins-", i)
		providers[name] = r.envoy(w.JWKS)
		provider := Object{"provider_name": name}
		each = append(each, provider)
		missing = append(missing, Object{"requires_any": Object{"requirements": []any{provider, Object{"allow_missing": Object{}}}}})
	}
	requires := missing[0]
	if len(s.JWT) > 1 {
		requires = Object{"requires_any": Object{"requirements": append(each, Object{"requires_all": Object{"requirements": missing}})}}
	}
	f := typed("extensions.filters.http.jwt_authn.v3.JwtAuthentication")
	f["providers"], f["bypass_cors_preflight"] = providers, true
	f["rules"] = []any{Object{"match": Object{"prefix": "/"}, "requires": requires}}
	return []any{Object{"name": "envoy.filters.http.jwt_authn", "typed_config": f}}
}

func (r *JWTRule) envoy(jwks string) Object {
	p := Object{
		"issuer": r.Issuer, "local_jwks": Object{"inline_string": jwks}, "payload_in_metadata": "payload", "clear_route_cache": true,
		"normalize_payload_in_metadata": Object{"space_delimited_claims": []any{"permission", "scope"}},
	}
	if r.Forward {
		p["forward"] = true
	}
	if r.Audiences != nil {
		p["audiences"] = r.Audiences
	}
	var headers []any
	for _, h := range r.FromHeaders {
		headers = append(headers, Object{"name": h[0], "value_prefix": h[1]})
	}
	if headers != nil {
		p["from_headers"] = headers
	}
	if r.FromParams != nil {
		p["from_params"] = r.FromParams
	}
	if r.FromCookies != nil {
		p["from_cookies"] = r.FromCookies
	}
	if r.PayloadHeader != "" {
		p["forward_payload_header"] = r.PayloadHeader
	}
	var out []any
	for _, c := range r.ClaimHeaders {
		out = append(out, Object{"header_name": c[0], "claim_name": c[1]})
	}
	if out != nil {
		p["claim_to_headers"] = out
	}
	return p
}

// requestAuthentication is the object behind jwtFilters.
func (w *World) requestAuthentication(s *Subject) Object {
	var rules []any
	for _, r := range s.JWT {
		o := Object{"issuer": r.Issuer, "jwks": w.JWKS, "forwardOriginalToken": r.Forward}
		if r.Audiences != nil {
			o["audiences"] = r.Audiences
		}
		var headers []any
		for _, h := range r.FromHeaders {
			header := Object{"name": h[0]}
			if h[1] != "" {
				header["prefix"] = h[1]
			}
			headers = append(headers, header)
		}
		if headers != nil {
			o["fromHeaders"] = headers
		}
		if r.FromParams != nil {
			o["fromParams"] = r.FromParams
		}
		if r.FromCookies != nil {
			o["fromCookies"] = r.FromCookies
		}
		if r.PayloadHeader != "" {
			o["outputPayloadToHeader"] = r.PayloadHeader
		}
		var claims []any
		for _, c := range r.ClaimHeaders {
			claims = append(claims, Object{"header": c[0], "claim": c[1]})
		}
		if claims != nil {
			o["outputClaimToHeaders"] = claims
		}
		rules = append(rules, o)
	}
	return w.object("security.istio.io/v1", "RequestAuthentication", s.Name, Object{"spec": Object{
		"targetRefs": []any{Object{"group": "", "kind": "Service", "name": s.Name}}, "jwtRules": rules}}, nil)
}

// customFilters are the shadow rules and the authorizer of a subject's CUSTOM
// policies; none without one.
func (w *World) customFilters(s *Subject) []any {
	policies, provider := Object{}, ""
	for _, p := range s.Policies {
		if p.Action != "CUSTOM" {
			continue
		}
		provider = p.Provider
		for i := range p.Rules {
			policies["istio-ext-authz-"+provider+"-"+ruleID(w.Namespace, p.Name, i)] = p.Rules[i].envoy(w.Namespace, p.Action, false)
		}
	}
	for i := range w.Providers {
		if p := &w.Providers[i]; p.Name == provider {
			shadow := typed("extensions.filters.http.rbac.v3.RBAC")
			shadow["shadow_rules"], shadow["shadow_rules_stat_prefix"] = rbacRules("DENY", policies), "istio_ext_authz_"
			return []any{Object{"name": "envoy.filters.http.rbac", "typed_config": shadow}, Object{"name": "envoy.filters.http.ext_authz", "typed_config": p.envoy(w)}}
		}
	}
	return nil
}

// envoy is the ext_authz filter of a provider.
func (p *Provider) envoy(w *World) Object {
	f := typed("extensions.filters.http.ext_authz.v3.ExtAuthz")
	f["transport_api_version"] = "V3"
	f["filter_enabled_metadata"] = Object{"filter": "envoy.filters.http.rbac", "path": []any{Object{"key": "istio_ext_authz_shadow_effective_policy_id"}},
		"value": Object{"string_match": Object{"prefix": "istio-ext-authz-" + p.Name}}}
	timeout := p.Timeout
	if timeout == "" {
		timeout = "600s"
	}
	if p.FailOpen {
		f["failure_mode_allow"] = true
	}
	if p.StatusOnError != 0 {
		f["status_on_error"] = Object{"code": p.StatusOnError}
	}
	if p.MaxBody > 0 {
		f["with_request_body"] = Object{"max_request_bytes": p.MaxBody, "allow_partial_message": p.PartialBody, "pack_as_bytes": p.BodyAsBytes}
	}
	if p.IncludeHeaders != nil {
		f["allowed_headers"] = namePatterns(p.IncludeHeaders)
	}
	if p.GRPC {
		f["grpc_service"] = Object{"timeout": timeout, "envoy_grpc": Object{"cluster_name": p.cluster(w), "authority": p.host(w)}}
		return f
	}
	s := Object{"server_uri": Object{"uri": "http://" + p.host(w), "cluster": p.cluster(w), "timeout": timeout}}
	if p.PathPrefix != "" {
		s["path_prefix"] = p.PathPrefix
	}
	var add []any
	for _, h := range p.AddHeaders {
		add = append(add, Object{"key": h[0], "value": h[1]})
	}
	if add != nil {
		s["authorization_request"] = Object{"headers_to_add": add}
	}
	response := Object{}
	for k, names := range map[string][]string{"allowed_upstream_headers": p.UpstreamOnAllow, "allowed_client_headers_on_success": p.DownstreamOnAllow, "allowed_client_headers": p.DownstreamOnDeny} {
		if names != nil {
			response[k] = namePatterns(names)
		}
	}
	if len(response) > 0 {
		s["authorization_response"] = response
	}
	f["http_service"] = s
	return f
}

// namePatterns selects header names.
func namePatterns(names []string) Object {
	var out []any
	for _, n := range names {
		m := Object{"exact": n}
		if p, ok := strings.CutSuffix(n, "*"); ok {
			m = Object{"prefix": p}
		} else if p, ok := strings.CutPrefix(n, "*"); ok {
			m = Object{"suffix": p}
		}
		m["ignore_case"] = true
		out = append(out, m)
	}
	return Object{"patterns": out}
}

// Where providers are: each kind is a service of its own name, the ones that are
// up share a pod, and nothing listens in the pod of the others.
const authorizerPod = loopNet + "1.101"

func (p *Provider) service() string {
	return "authz-" + p.Where + map[bool]string{true: "-grpc", false: "-http"}[p.GRPC]
}
func (p *Provider) host(w *World) string {
	return p.service() + "." + w.Namespace + ".svc.cluster.local"
}
func (p *Provider) cluster(w *World) string { return "outbound|80||" + p.host(w) }
func (p *Provider) pod() string {
	if p.Where == "down" {
		return downPod
	}
	return authorizerPod
}

// services are the providers' services, each once.
func (w *World) authorizers() []*Provider {
	var out []*Provider
	seen := map[string]bool{}
	for i := range w.Providers {
		if p := &w.Providers[i]; !seen[p.service()] {
			seen[p.service()] = true
			out = append(out, p)
		}
	}
	return out
}

func (w *World) addProviders(out *Resources) {
	for _, p := range w.authorizers() {
		e := Object{"cluster_name": p.cluster(w)}
		if p.Where != "empty" {
			e = w.endpoints(p.cluster(w), "authorizer", p.pod())
		}
		out.add(w.cluster(p.cluster(w), p.service(), p.GRPC), e)
	}
	if len(w.Providers) > 0 {
		out.Workloads = append(out.Workloads, w.workload("authorizer", authorizerPod))
	}
}

// providerObjects are the providers' services and the mesh configuration.
func (w *World) providerObjects() []any {
	if len(w.Providers) == 0 {
		return nil
	}
	items := []any{w.pod("authorizer", authorizerPod)}
	for i, p := range w.authorizers() {
		port := httpPort
		if p.GRPC {
			port.name = "grpc"
		}
		items = append(items, w.service(p.service(), fmt.Sprint("10.97.250.", 1+i), port))
		if p.Where != "empty" {
			items = append(items, w.slice(p.service(), map[bool]string{true: "nobody", false: "authorizer"}[p.Where == "down"], p.pod(), port))
		}
	}
	var providers []any
	for i := range w.Providers {
		providers = append(providers, w.Providers[i].kube(w))
	}
	mesh := string(mustJSON(Object{"extensionProviders": providers}))
	return append(items, Object{"apiVersion": "v1", "kind": "ConfigMap", "metadata": Object{"name": "istio", "namespace": "istio-system"}, "data": Object{"mesh": mesh}})
}

func (p *Provider) kube(w *World) Object {
	o := Object{"service": p.host(w), "port": 80, "failOpen": p.FailOpen}
	for k, v := range map[string]string{"timeout": p.Timeout, "pathPrefix": p.PathPrefix} {
		if v != "" {
			o[k] = v
		}
	}
	if p.StatusOnError != 0 {
		o["statusOnError"] = fmt.Sprint(p.StatusOnError)
	}
	if p.MaxBody > 0 {
		o["includeRequestBodyInCheck"] = Object{"maxRequestBytes": p.MaxBody, "allowPartialMessage": p.PartialBody, "packAsBytes": p.BodyAsBytes}
	}
	for k, v := range map[string][]string{"includeRequestHeadersInCheck": p.IncludeHeaders, "headersToUpstreamOnAllow": p.UpstreamOnAllow,
		"headersToDownstreamOnAllow": p.DownstreamOnAllow, "headersToDownstreamOnDeny": p.DownstreamOnDeny} {
		if v != nil {
			o[k] = v
		}
	}
	if p.AddHeaders != nil {
		add := Object{}
		for _, h := range p.AddHeaders {
			add[h[0]] = h[1]
		}
		o["includeAdditionalHeadersInCheck"] = add
	}
	kind := "envoyExtAuthzHttp"
	if p.GRPC {
		kind = "envoyExtAuthzGrpc"
	}
	return Object{"name": p.Name, kind: o}
}
