package agent

import (
	"encoding/json"
	"fmt"
	"strings"
)

// IstioVersion is what istiod is told this proxy is. It decides which shapes of
// configuration istiod sends (gates at 1.28, 1.29, 1.29.2 and 1.30); all of them
// are translated by config/istiod.
const IstioVersion = "1.31.1"

// MinIstiod and MaxIstiod are the first and last minor versions of istiod whose
// configuration was translated and served beside a live one.
const (
	MinIstiod = "1.28"
	MaxIstiod = "1.31"
)

// Node is how a proxy presents itself to istiod.
type Node struct {
	ID       string // waypoint~<ip>~<pod>.<namespace>~<namespace>.svc.<domain>
	Cluster  string // <account>.<namespace>
	Locality Locality
	Metadata map[string]any // JSON values
}

// Locality of the pod, where known.
type Locality struct{ Region, Zone, SubZone string }

// Ports that istiod is told of (template: containers[0].ports).
const (
	statusPort     = 15021
	prometheusPort = 15090
)

func (s *Settings) node(e env, pc proxyConfig, labels map[string]string, f Flags, dnsDomain string) Node {
	ips := make([]string, len(s.IPs))
	for i, a := range s.IPs {
		ips[i] = a.String()
	}
	n := Node{
		ID:      fmt.Sprintf("waypoint~%s~%s.%s~%s", ips[0], s.Pod, s.Namespace, dnsDomain),
		Cluster: f.ServiceCluster,
	}
	if n.Cluster == "" {
		n.Cluster = s.Account + "." + s.Namespace
	}
	n.Locality = locality(labels)
	m := map[string]any{}
	for k, v := range e.prefixed("ISTIO_META_") {
		m[k] = v
	}
	for k, v := range e.prefixed("ISTIO_METAJSON_") {
		var obj map[string]any
		if err := json.Unmarshal([]byte(v), &obj); err != nil {
			s.warn("ISTIO_METAJSON_%s is not a JSON object: %v", k, err)
			continue
		}
		for name, val := range obj {
			m[name] = val
		}
	}
	// What follows decides about access (istiod compares NAMESPACE and
	// SERVICE_ACCOUNT with the token) or scope, so it is not the user's to set.
	m["PROXY_CONFIG"] = map[string]any(pc)
	m["ISTIO_VERSION"] = IstioVersion
	m["NAME"], m["NAMESPACE"], m["SERVICE_ACCOUNT"] = s.Pod, s.Namespace, s.Account
	m["INSTANCE_IPS"] = strings.Join(ips, ",")
	m["CLUSTER_ID"], m["MESH_ID"] = s.ClusterID, s.MeshID
	if s.Network != "" {
		m["NETWORK"] = s.Network
	}
	m["LABELS"], m["ANNOTATIONS"] = object(labels), object(s.Annotation)
	m["METADATA_DISCOVERY"] = "true"
	m["ENVOY_STATUS_PORT"], m["ENVOY_PROMETHEUS_PORT"] = statusPort, prometheusPort
	if e.bool("EXIT_ON_ZERO_ACTIVE_CONNECTIONS") {
		m["EXIT_ON_ZERO_ACTIVE_CONNECTIONS"] = "true"
	}
	n.Metadata = m
	return n
}

func object(m map[string]string) map[string]any {
	out := make(map[string]any, len(m))
	for k, v := range m {
		out[k] = v
	}
	return out
}

// locality reads the labels that Kubernetes copies to pods, and Istio's own
// region.zone.subzone or region/zone/subzone, which wins.
func locality(labels map[string]string) Locality {
	l := Locality{labels["topology.kubernetes.io/region"], labels["topology.kubernetes.io/zone"], labels["topology.istio.io/subzone"]}
	if v := labels["istio-locality"]; v != "" {
		sep := "."
		if strings.Contains(v, "/") {
			sep = "/"
		}
		p := append(strings.SplitN(v, sep, 3), "", "")
		l = Locality{p[0], p[1], p[2]}
	}
	return l
}

// SupportedIstiod reports whether a version of istiod ("1.30.2", "1.31-alpha") is
// in the range that was tested. Versions it cannot read are not judged.
func SupportedIstiod(version string) (ok, known bool) {
	var major, minor, first, last int
	if _, err := fmt.Sscanf(version, "%d.%d", &major, &minor); err != nil {
		return false, false
	}
	fmt.Sscanf(MinIstiod, "1.%d", &first)
	fmt.Sscanf(MaxIstiod, "1.%d", &last)
	return major == 1 && minor >= first && minor <= last, true
}
