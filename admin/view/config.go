package view

import (
	"strings"

	"waypoint.dev/waypoint/authz"
	"waypoint.dev/waypoint/config"
)

// Dump is the answer to /config_dump.
type Dump struct {
	Version      uint64        `json:"version"`
	Mesh         Mesh          `json:"mesh"`
	Destinations []Destination `json:"destinations"`
	Backends     []Backend     `json:"backends"`
	Workloads    int           `json:"workloads"`
	Problems     []Problem     `json:"problems"`
}

// Mesh is what holds everywhere.
type Mesh struct {
	TrustDomain   string   `json:"trustDomain"`
	TrustAliases  []string `json:"trustDomainAliases,omitempty"`
	RootNamespace string   `json:"rootNamespace,omitempty"`
	ClusterID     string   `json:"clusterID,omitempty"`
	Network       string   `json:"network,omitempty"`
	Waypoint      string   `json:"waypoint"`
}

// Destination is one thing tunnels address.
type Destination struct {
	Key       string   `json:"key"`
	Addresses []string `json:"addresses,omitempty"`
	Port      uint16   `json:"port,omitempty"`
	Hosts     []string `json:"hosts,omitempty"`
	Protocol  string   `json:"protocol"`
	Stages    []Stage  `json:"stages,omitempty"`
	ConnRules []string `json:"connectionPolicies,omitempty"`
	Routes    []string `json:"routes"` // as the table tries them
	Consumers []string `json:"consumerNamespaces,omitempty"`
	Broken    string   `json:"broken,omitempty"`
}

// Stage is one step before routing.
type Stage struct {
	Kind     string   `json:"kind"`
	Policies []string `json:"policies,omitempty"`
}

// Problem is a config.Problem in words.
type Problem struct {
	Severity string `json:"severity"`
	Object   string `json:"object"`
	Source   string `json:"source,omitempty"`
	Field    string `json:"field,omitempty"`
	Message  string `json:"message"`
	Reason   string `json:"reason,omitempty"`
}

// Config renders a snapshot; nil is one that serves nothing.
func Config(s *config.Snapshot, problems []config.Problem) Dump {
	d := Dump{Destinations: []Destination{}, Backends: Backends(s), Problems: Problems(problems)}
	if s == nil {
		return d
	}
	d.Version = s.Version
	m := s.Mesh
	d.Mesh = Mesh{m.TrustDomain, m.TrustAliases, m.RootNamespace, m.ClusterID, m.Network, m.Waypoint.Namespace + "/" + m.Waypoint.Name}
	for _, c := range s.Chains() {
		d.Destinations = append(d.Destinations, destination(c))
	}
	seen := map[*config.Workload]bool{}
	for _, w := range s.Workloads {
		seen[w] = true
	}
	d.Workloads = len(seen)
	return d
}

func destination(c *config.Chain) Destination {
	spec := c.Spec
	d := Destination{Key: spec.Key, Port: spec.Port, Hosts: spec.Hosts, Protocol: Protocol(spec.Protocol), Broken: c.Broken}
	for _, p := range spec.Addrs {
		if p.IsSingleIP() {
			d.Addresses = append(d.Addresses, p.Addr().String())
		} else {
			d.Addresses = append(d.Addresses, p.String())
		}
	}
	for _, st := range spec.Stages {
		d.Stages = append(d.Stages, Stage{StageKind(st.Kind), policies(st.Policies)})
	}
	d.ConnRules = policies(spec.Conn)
	d.Routes = lines(c.Table("").Dump(spec.Refs))
	for ns := range spec.Consumers {
		d.Consumers = append(d.Consumers, ns)
	}
	return d
}

func lines(s string) []string {
	s = strings.TrimRight(s, "\n")
	if s == "" {
		return []string{}
	}
	return strings.Split(s, "\n")
}

func policies(list []authz.Policy) (out []string) {
	for _, p := range list {
		s := [...]string{"ALLOW", "DENY", "AUDIT", "CUSTOM"}[p.Action] + " " + p.Namespace + "/" + p.Name
		if p.DryRun {
			s += " (dry run)"
		}
		if p.Invalid != "" {
			s += " INVALID, denies everything: " + p.Invalid
		}
		out = append(out, s)
	}
	return out
}

// Problems puts them into words.
func Problems(list []config.Problem) []Problem {
	out := make([]Problem, 0, len(list))
	for _, p := range list {
		object := p.Kind
		if p.Name != "" {
			object += " " + strings.TrimPrefix(p.Namespace+"/"+p.Name, "/")
		}
		out = append(out, Problem{Severity(p.Severity), object, p.Source, p.Field, p.Message, p.Reason})
	}
	return out
}

// Severity in words.
func Severity(s config.Severity) string {
	return [...]string{"info", "warning", "error"}[s]
}

// Protocol in words.
func Protocol(p config.Protocol) string {
	return [...]string{"auto", "http", "http2", "grpc", "grpc-web", "tcp", "tls"}[p]
}

// StageKind in words.
func StageKind(k config.StageKind) string {
	names := [...]string{"custom", "jwt", "authz", "fault", "cors", "ratelimit", "headers"}
	if int(k) < len(names) {
		return names[k]
	}
	return "unknown"
}
