package kube

import (
	"net/netip"
	"strconv"
	"strings"

	"waypoint.dev/waypoint/authz/jwt"
)

// Limits of Istio's schema.
const (
	maxTargets    = 16
	maxAuthzRules = 512
)

func (a *Attachment) check(r *report) {
	n := 0
	for _, set := range []bool{a.Selector != nil, a.TargetRef != nil, len(a.TargetRefs) > 0} {
		if set {
			n++
		}
	}
	if n > 1 {
		r.addf("spec", "only one of targetRefs or selector can be set")
	}
	if len(a.TargetRefs) > maxTargets {
		r.addf("spec.targetRefs", "has %d entries, at most %d are allowed", len(a.TargetRefs), maxTargets)
	}
	for i, t := range a.refs() {
		p := at("spec.targetRefs", i)
		if t.Name == "" {
			r.addf(p+".name", "required")
		}
		if t.Namespace != "" {
			r.addf(p+".namespace", "cross namespace referencing is not supported")
		}
		if t.SectionName != "" {
			r.addf(p+".sectionName", "unknown field: a policy acts on all ports of its target; rules choose some by to.operation.ports")
		}
		if !isTarget(&t) {
			r.addf(p+".kind", "%s cannot be a target, only a Service, ServiceEntry, Gateway or GatewayClass", groupKind{t.Group, t.Kind})
		}
	}
}

// isTarget reports whether a policy can have a target of that kind.
func isTarget(t *TargetRef) bool {
	switch (groupKind{strings.TrimPrefix(t.Group, "core"), t.Kind}) {
	case groupKind{"", "Service"}, groupKind{groupNet, "ServiceEntry"}, groupKind{groupGateway, "Gateway"}, groupKind{groupGateway, "GatewayClass"}:
		return true
	}
	return false
}

func (a *AuthorizationPolicy) fill() {
	if a.Action == "" {
		a.Action = "ALLOW"
	}
}

func (a *AuthorizationPolicy) check(r *report) {
	a.Attachment.check(r)
	oneOf(r, "spec.action", a.Action, "ALLOW", "DENY", "AUDIT", "CUSTOM")
	if a.Action == "CUSTOM" && (a.Provider == nil || a.Provider.Name == "") {
		r.addf("spec.provider.name", "required with action CUSTOM")
	}
	if a.Action != "CUSTOM" && a.Provider != nil {
		r.addf("spec.provider", "only action CUSTOM has a provider")
	}
	if (a.Action == "CUSTOM" || a.Action == "DENY") && a.Rules == nil {
		r.addf("spec.rules", "required with action %s; it would never match", a.Action)
	}
	if len(a.Rules) > maxAuthzRules {
		r.addf("spec.rules", "has %d entries, at most %d are allowed", len(a.Rules), maxAuthzRules)
	}
	for i := range a.Rules {
		a.Rules[i].check(r, at("spec.rules", i))
	}
}

func (a *AuthzRule) check(r *report, p string) {
	if a.From != nil && len(a.From) == 0 || len(a.From) > maxAuthzRules {
		r.addf(p+".from", "must have 1 to %d entries", maxAuthzRules)
	}
	if a.To != nil && len(a.To) == 0 {
		r.addf(p+".to", "must not be empty")
	}
	for i, f := range a.From {
		q := at(p+".from", i) + ".source"
		if f.Source == nil || empty(f.Source.lists()) {
			r.addf(q, "must not be empty")
			continue
		}
		checkLists(r, q, f.Source.lists())
		if s := f.Source; len(s.ServiceAccounts)+len(s.NotServiceAccounts) > 0 &&
			len(s.Principals)+len(s.NotPrincipals)+len(s.Namespaces)+len(s.NotNamespaces) > 0 {
			r.addf(q+".serviceAccounts", "cannot be combined with principals or namespaces")
		}
		for _, l := range f.Source.lists() {
			switch {
			case strings.HasSuffix(l.name, "Blocks"):
				for j, v := range l.vs {
					if !isCIDR(v) {
						r.addf(at(q+"."+l.name, j), "%q is no IP address or CIDR", v)
					}
				}
			case strings.HasSuffix(l.name, "erviceAccounts"):
				if len(l.vs) > 16 {
					r.addf(q+"."+l.name, "has %d entries, at most 16 are allowed", len(l.vs))
				}
				for j, v := range l.vs {
					if len(v) > 320 || strings.Contains(v, "*") || strings.Count(v, "/") > 1 {
						r.addf(at(q+"."+l.name, j), "%q is not of the form <namespace>/<name> or <name>", v)
					}
				}
			}
		}
	}
	for i, t := range a.To {
		q := at(p+".to", i) + ".operation"
		if t.Operation == nil || empty(t.Operation.lists()) {
			r.addf(q, "must not be empty")
			continue
		}
		checkLists(r, q, t.Operation.lists())
		for _, l := range t.Operation.lists() {
			if strings.HasSuffix(l.name, "orts") {
				for j, v := range l.vs {
					if n, err := strconv.ParseUint(v, 10, 16); err != nil || n == 0 {
						r.addf(at(q+"."+l.name, j), "%q is no port", v)
					}
				}
			}
		}
	}
	for i, w := range a.When {
		q := at(p+".when", i)
		if w.Key == "" {
			r.addf(q+".key", "required")
		}
		if len(w.Values)+len(w.NotValues) == 0 {
			r.addf(q, "at least one of values or notValues must be set")
		}
		checkLists(r, q, []list{{"values", w.Values}, {"notValues", w.NotValues}})
	}
}

type list struct {
	name string
	vs   []string
}

func (s *AuthzSource) lists() []list {
	return []list{
		{"principals", s.Principals}, {"notPrincipals", s.NotPrincipals},
		{"requestPrincipals", s.RequestPrincipals}, {"notRequestPrincipals", s.NotRequestPrincipals},
		{"namespaces", s.Namespaces}, {"notNamespaces", s.NotNamespaces},
		{"serviceAccounts", s.ServiceAccounts}, {"notServiceAccounts", s.NotServiceAccounts},
		{"trustDomains", s.TrustDomains}, {"notTrustDomains", s.NotTrustDomains},
		{"ipBlocks", s.IPBlocks}, {"notIpBlocks", s.NotIPBlocks},
		{"remoteIpBlocks", s.RemoteIPBlocks}, {"notRemoteIpBlocks", s.NotRemoteIPBlocks},
	}
}

func (o *AuthzOperation) lists() []list {
	return []list{
		{"hosts", o.Hosts}, {"notHosts", o.NotHosts}, {"ports", o.Ports}, {"notPorts", o.NotPorts},
		{"methods", o.Methods}, {"notMethods", o.NotMethods}, {"paths", o.Paths}, {"notPaths", o.NotPaths},
	}
}

func empty(ls []list) bool {
	for _, l := range ls {
		if len(l.vs) > 0 {
			return false
		}
	}
	return true
}

func checkLists(r *report, p string, ls []list) {
	for _, l := range ls {
		for i, v := range l.vs {
			if v == "" {
				r.addf(at(p+"."+l.name, i), "must not be empty")
			}
		}
	}
}

func isCIDR(v string) bool {
	if _, err := netip.ParsePrefix(v); err == nil {
		return true
	}
	_, err := netip.ParseAddr(v)
	return err == nil
}

func (a *RequestAuthentication) fill() {}

func (a *RequestAuthentication) check(r *report) {
	a.Attachment.check(r)
	if len(a.JWTRules) > 4096 {
		r.addf("spec.jwtRules", "has %d entries, at most 4096 are allowed", len(a.JWTRules))
	}
	for i := range a.JWTRules {
		j, p := &a.JWTRules[i], at("spec.jwtRules", i)
		if j.Issuer == "" && j.JWKSURI == "" {
			r.addf(p+".issuer", "required without jwksUri")
		}
		if j.JWKS != "" && j.JWKSURI != "" {
			r.addf(p, "only one of jwks or jwksUri can be set")
		}
		if j.JWKS != "" {
			if _, err := jwt.Usable(j.JWKS); err != nil {
				r.addf(p+".jwks", "%v", err)
			}
		}
		if j.JWKSURI != "" && !isURL(j.JWKSURI) {
			r.addf(p+".jwksUri", "%q is no http or https URL", j.JWKSURI)
		}
		for k, h := range j.FromHeaders {
			if !headerName.MatchString(h.Name) {
				r.addf(at(p+".fromHeaders", k)+".name", "%q is no header name", h.Name)
			}
		}
		for k, h := range j.OutputClaimToHeaders {
			if !headerName.MatchString(h.Header) || h.Claim == "" {
				r.addf(at(p+".outputClaimToHeaders", k), "header and claim are required")
			}
		}
		if j.OutputPayloadToHeader != "" && !headerName.MatchString(j.OutputPayloadToHeader) {
			r.addf(p+".outputPayloadToHeader", "%q is no header name", j.OutputPayloadToHeader)
		}
		checkLists(r, p, []list{{"audiences", j.Audiences}, {"fromParams", j.FromParams}, {"fromCookies", j.FromCookies}})
	}
}

func (w *WorkloadEntry) fill() {}

func (w *WorkloadEntry) check(r *report) {
	if w.Address == "" && w.Network == "" {
		r.addf("spec.address", "required without network")
	}
	w.checkPorts(r, "spec.ports")
}

func (w *WorkloadEntry) checkPorts(r *report, p string) {
	for name, port := range w.Ports {
		if port < 1 || port > 65535 {
			r.addf(p+"."+name, "%d is not between 1 and 65535", port)
		}
	}
}

func (s *ServiceEntry) fill() {
	if s.Resolution == "" {
		s.Resolution = "NONE"
	}
	if s.Location == "" {
		s.Location = "MESH_EXTERNAL"
	}
}

func (s *ServiceEntry) check(r *report) {
	if len(s.Hosts) == 0 || len(s.Hosts) > 256 {
		r.addf("spec.hosts", "must have 1 to 256 entries")
	}
	for i, h := range s.Hosts {
		if h == "*" || !hostname.MatchString(strings.ToLower(h)) {
			r.addf(at("spec.hosts", i), "%q is no valid hostname", h)
		}
		if strings.HasPrefix(h, "*.") && (s.Resolution == "DNS" || s.Resolution == "DNS_ROUND_ROBIN") {
			r.addf(at("spec.hosts", i), "a wildcard cannot be resolved by DNS; use DYNAMIC_DNS or NONE")
		}
	}
	oneOf(r, "spec.resolution", s.Resolution, "NONE", "STATIC", "DNS", "DNS_ROUND_ROBIN", "DYNAMIC_DNS")
	oneOf(r, "spec.location", s.Location, "MESH_EXTERNAL", "MESH_INTERNAL")
	for i, a := range s.Addresses {
		if !isCIDR(a) {
			r.addf(at("spec.addresses", i), "%q is no IP address or CIDR", a)
		}
	}
	if len(s.Endpoints) > 0 && s.WorkloadSelector != nil {
		r.addf("spec", "only one of WorkloadSelector or Endpoints can be set")
	}
	if s.Resolution == "NONE" && len(s.Endpoints) > 0 {
		r.addf("spec.endpoints", "cannot be set with resolution NONE")
	}
	names, numbers := map[string]bool{}, map[uint32]bool{}
	for i, p := range s.Ports {
		q := at("spec.ports", i)
		if p.Name == "" {
			r.addf(q+".name", "required")
		}
		if p.Number < 1 || p.Number > 65535 || p.TargetPort > 65535 {
			r.addf(q+".number", "is not between 1 and 65535")
		}
		if names[p.Name] || numbers[p.Number] {
			r.addf(q, "port name and number must be unique")
		}
		names[p.Name], numbers[p.Number] = true, true
	}
	for i := range s.Endpoints {
		s.Endpoints[i].checkPorts(r, at("spec.endpoints", i)+".ports")
		if a := s.Endpoints[i].Address; s.Resolution == "STATIC" {
			if _, err := netip.ParseAddr(a); err != nil {
				r.addf(at("spec.endpoints", i)+".address", "%q is no IP address, which resolution STATIC needs", a)
			}
		}
	}
}
