package hbone

import (
	"net/netip"
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

// ParseForwarded reads the first element of an RFC 7239 Forwarded header:
// ztunnel sends for="ip:port" of the original client pod and, when a service
// was addressed, host=<hostname>. Unknown parameters are skipped; what cannot be
// read stays zero. For telemetry only.
func ParseForwarded(s string) (client netip.AddrPort, host string) {
	for s != "" {
		var name, value string
		var sep byte
		name, value, s, sep = forwardedPair(s)
		switch {
		case strings.EqualFold(name, "for"):
			if ap, err := netip.ParseAddrPort(value); err == nil && ap.Addr().Zone() == "" {
				client = netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
			}
		case strings.EqualFold(name, "host"):
			host = value
		}
		if sep == ',' {
			break
		}
	}
	return client, host
}

// forwardedPair takes one name=value off s; value may be a quoted string (its
// escapes are left as they are: no address or host name has any).
func forwardedPair(s string) (name, value, rest string, sep byte) {
	i := 0
	for i < len(s) && s[i] != '=' && s[i] != ';' && s[i] != ',' {
		i++
	}
	name = trim(s[:i])
	if i < len(s) && s[i] == '=' {
		i++
		start := i
		if i < len(s) && s[i] == '"' {
			for i++; i < len(s) && s[i] != '"'; i++ {
				if s[i] == '\\' && i+1 < len(s) {
					i++
				}
			}
			value = s[start+1 : min(i, len(s))]
		}
		end := i
		for i < len(s) && s[i] != ';' && s[i] != ',' {
			i++
		}
		if end == start {
			value = trim(s[start:i])
		}
	}
	if i < len(s) {
		return name, value, s[i+1:], s[i]
	}
	return name, value, "", 0
}
