package hbone

import (
	"strings"
)

// Baggage is what the peer says of its workload in the CONNECT. It feeds
// telemetry and never a decision: only the certificate is authenticated. The
// strings borrow from the header.
type Baggage struct {
	Cluster   string // k8s.cluster.name
	Namespace string // k8s.namespace.name
	Kind      string // "deployment", "cronjob", "pod" or "job"
	Workload  string // k8s.<kind>.name
	Service   string // service.name: the canonical name
	Revision  string // service.version: the canonical revision
	App       string // app.name
	Version   string // app.version
	Instance  string // k8s.instance.name
	Region    string // cloud.region
	Zone      string // cloud.availability_zone
}

// ParseBaggage reads ztunnel's form: comma joined k=v without escapes. Unknown
// keys and members that are no pair are skipped, a repeated key's first value
// counts. It allocates nothing.
func ParseBaggage(s string) (b Baggage) {
	for s != "" {
		var member string
		member, s, _ = strings.Cut(s, ",")
		member, _, _ = strings.Cut(member, ";") // W3C Baggage properties
		k, v, ok := strings.Cut(member, "=")
		if k, v = trim(k), trim(v); ok && v != "" {
			b.set(k, v)
		}
	}
	return b
}

func (b *Baggage) set(k, v string) {
	switch k {
	case "k8s.cluster.name":
		first(&b.Cluster, v)
	case "k8s.namespace.name":
		first(&b.Namespace, v)
	case "k8s.deployment.name":
		b.workload("deployment", v)
	case "k8s.cronjob.name":
		b.workload("cronjob", v)
	case "k8s.pod.name":
		b.workload("pod", v)
	case "k8s.job.name":
		b.workload("job", v)
	case "service.name":
		first(&b.Service, v)
	case "service.version":
		first(&b.Revision, v)
	case "app.name":
		first(&b.App, v)
	case "app.version":
		first(&b.Version, v)
	case "k8s.instance.name":
		first(&b.Instance, v)
	case "cloud.region":
		first(&b.Region, v)
	case "cloud.availability_zone":
		first(&b.Zone, v)
	}
}

func (b *Baggage) workload(kind, name string) {
	if b.Kind == "" {
		b.Kind, b.Workload = kind, name
	}
}

func first(dst *string, v string) {
	if *dst == "" {
		*dst = v
	}
}

func trim(s string) string { return strings.Trim(s, " \t") }
