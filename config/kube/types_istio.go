package kube

import (
	"encoding/json"
	"net/netip"
)

// TargetRef names what a policy acts on.
type TargetRef struct {
	Group       string `json:"group"`
	Kind        string `json:"kind"`
	Name        string `json:"name"`
	Namespace   string `json:"namespace"`
	SectionName string `json:"sectionName"`
}

// Attachment is how Istio's policies name their targets.
type Attachment struct {
	Selector *struct {
		MatchLabels map[string]string `json:"matchLabels"`
	} `json:"selector"`
	TargetRef  *TargetRef  `json:"targetRef"`
	TargetRefs []TargetRef `json:"targetRefs"`
}

// refs returns all targets.
func (a *Attachment) refs() []TargetRef {
	if a.TargetRef != nil {
		return append([]TargetRef{*a.TargetRef}, a.TargetRefs...)
	}
	return a.TargetRefs
}

// AuthorizationPolicy is security.istio.io AuthorizationPolicy.
type AuthorizationPolicy struct {
	Attachment
	Action   string `json:"action"`
	Provider *struct {
		Name string `json:"name"`
	} `json:"provider"`
	Rules []AuthzRule `json:"rules"`
}

// AuthzRule is one rule of an AuthorizationPolicy.
type AuthzRule struct {
	From []struct {
		Source *AuthzSource `json:"source"`
	} `json:"from"`
	To []struct {
		Operation *AuthzOperation `json:"operation"`
	} `json:"to"`
	When []struct {
		Key       string   `json:"key"`
		Values    []string `json:"values"`
		NotValues []string `json:"notValues"`
	} `json:"when"`
}

// AuthzSource is from.source.
type AuthzSource struct {
	Principals           []string `json:"principals"`
	NotPrincipals        []string `json:"notPrincipals"`
	RequestPrincipals    []string `json:"requestPrincipals"`
	NotRequestPrincipals []string `json:"notRequestPrincipals"`
	Namespaces           []string `json:"namespaces"`
	NotNamespaces        []string `json:"notNamespaces"`
	ServiceAccounts      []string `json:"serviceAccounts"`
	NotServiceAccounts   []string `json:"notServiceAccounts"`
	TrustDomains         []string `json:"trustDomains"`
	NotTrustDomains      []string `json:"notTrustDomains"`
	IPBlocks             []string `json:"ipBlocks"`
	NotIPBlocks          []string `json:"notIpBlocks"`
	RemoteIPBlocks       []string `json:"remoteIpBlocks"`
	NotRemoteIPBlocks    []string `json:"notRemoteIpBlocks"`
}

// AuthzOperation is to.operation.
type AuthzOperation struct {
	Hosts      []string `json:"hosts"`
	NotHosts   []string `json:"notHosts"`
	Ports      []string `json:"ports"`
	NotPorts   []string `json:"notPorts"`
	Methods    []string `json:"methods"`
	NotMethods []string `json:"notMethods"`
	Paths      []string `json:"paths"`
	NotPaths   []string `json:"notPaths"`
}

// RequestAuthentication is security.istio.io RequestAuthentication. It is carried
// as config.StageJWT.
type RequestAuthentication struct {
	Attachment
	JWTRules []JWTRule `json:"jwtRules"`
}

// JWTRule is one issuer.
type JWTRule struct {
	Issuer      string   `json:"issuer"`
	Audiences   []string `json:"audiences"`
	JWKSURI     string   `json:"jwksUri"`
	JWKS        string   `json:"jwks"`
	FromHeaders []struct {
		Name   string `json:"name"`
		Prefix string `json:"prefix"`
	} `json:"fromHeaders"`
	FromParams            []string `json:"fromParams"`
	FromCookies           []string `json:"fromCookies"`
	OutputPayloadToHeader string   `json:"outputPayloadToHeader"`
	OutputClaimToHeaders  []struct {
		Header string `json:"header"`
		Claim  string `json:"claim"`
	} `json:"outputClaimToHeaders"`
	ForwardOriginalToken bool      `json:"forwardOriginalToken"`
	Timeout              *Duration `json:"timeout"`
	SpaceDelimitedClaims []string  `json:"spaceDelimitedClaims"`
}

// WorkloadEntry is networking.istio.io WorkloadEntry.
type WorkloadEntry struct {
	Address        string            `json:"address"`
	Ports          map[string]uint32 `json:"ports"`
	Labels         map[string]string `json:"labels"`
	Network        string            `json:"network"`
	Locality       string            `json:"locality"`
	Weight         uint32            `json:"weight"`
	ServiceAccount string            `json:"serviceAccount"`
}

// ServiceEntry is networking.istio.io ServiceEntry.
type ServiceEntry struct {
	Hosts     []string `json:"hosts"`
	Addresses []string `json:"addresses"`
	Ports     []struct {
		Number     uint32 `json:"number"`
		Name       string `json:"name"`
		Protocol   string `json:"protocol"`
		TargetPort uint32 `json:"targetPort"`
	} `json:"ports"`
	Location         string          `json:"location"`
	Resolution       string          `json:"resolution"`
	Endpoints        []WorkloadEntry `json:"endpoints"`
	ExportTo         []string        `json:"exportTo"`
	SubjectAltNames  []string        `json:"subjectAltNames"`
	Visibility       string          `json:"visibility"`
	WorkloadSelector *struct {
		Labels map[string]string `json:"labels"`
	} `json:"workloadSelector"`

	assigned []assignedAddr // from the status
}

// status reads the addresses that istiod allocated.
func (s *ServiceEntry) status(raw json.RawMessage) {
	var st struct {
		Addresses []struct {
			Value string `json:"value"`
			Host  string `json:"host"`
		} `json:"addresses"`
	}
	if json.Unmarshal(raw, &st) != nil {
		return // a status is nobody's configuration: what cannot be read is not there
	}
	for _, a := range st.Addresses {
		if ip, err := netip.ParseAddr(a.Value); err == nil {
			s.assigned = append(s.assigned, assignedAddr{a.Host, ip.Unmap()})
		}
	}
}
