package balance

import (
	"slices"
	"strings"
)

// Labels that localities and networks are written under, on pods and in
// failoverPriority.
const (
	LabelRegion  = "topology.kubernetes.io/region"
	LabelZone    = "topology.kubernetes.io/zone"
	LabelSubzone = "topology.istio.io/subzone"
	LabelNetwork = "topology.istio.io/network"
	LabelNode    = "kubernetes.io/hostname"
)

// LocalityRules say which endpoints are near, as Istio's localityLbSetting does.
// The zero value is Istio's default: failover by locality.
type LocalityRules struct {
	// Distribute spreads load over localities; it excludes the other two.
	Distribute []Distribute
	// FailoverPriority are labels, most important first: an endpoint's priority is
	// the number of labels from its first mismatch on. "key=value" asks for a
	// value rather than the waypoint's own.
	FailoverPriority []string
	// Failover says which region takes over from which; others come last.
	Failover []Failover
}

// Distribute sends the load of clients in From, a locality pattern, to localities
// by weight.
type Distribute struct {
	From string // "region/zone/subzone", each part may be "*", missing parts match all
	To   []LocalityShare
}

// LocalityShare is the weight of the localities that match a pattern.
type LocalityShare struct {
	Pattern string
	Weight  uint32
}

// Failover names the region that takes over.
type Failover struct{ From, To string }

// TrafficDistribution returns the failover labels of a Service's
// spec.trafficDistribution, or of networking.istio.io/traffic-distribution; nil
// for a value that means none.
func TrafficDistribution(value string) []string {
	switch value {
	case "PreferClose", "PreferSameZone":
		return []string{LabelNetwork, LabelRegion, LabelZone}
	case "PreferSameNode":
		return []string{LabelNetwork, LabelRegion, LabelZone, LabelSubzone, LabelNode}
	}
	return nil
}

// Place is where the waypoint itself runs.
type Place struct {
	Locality Locality
	Network  string
	Node     string
	Labels   map[string]string // of its pod
}

// value returns the waypoint's value of a label.
func (p *Place) value(label string) string {
	if v, ok := p.Labels[label]; ok {
		return v
	}
	switch label {
	case LabelNetwork:
		return p.Network
	case LabelNode:
		return p.Node
	}
	return p.Locality.value(label)
}

func (l *Locality) value(label string) string {
	switch label {
	case LabelRegion:
		return l.Region
	case LabelZone:
		return l.Zone
	case LabelSubzone:
		return l.Subzone
	}
	return ""
}

// value returns an endpoint's value of a label. Sources put network and node
// into Labels, since an Endpoint has no other place for them.
func (e *Endpoint) value(label string) string {
	if v, ok := e.Labels[label]; ok {
		return v
	}
	return e.Locality.value(label)
}

// Prioritize sets Priority and Locality.Weight of endpoints that are not yet in a
// Set, seen from local, and returns those that stay. Locality weights become the
// sum of the endpoints' weights, or what Distribute gives; a set built from them
// with Distribute must have Policy.LocalityWeighted. Priorities come out dense.
func Prioritize(local *Place, rules *LocalityRules, eps []*Endpoint) []*Endpoint {
	sums := localityWeights(eps)
	for _, e := range eps {
		e.Locality.Weight = sums[place(e)]
	}
	if len(rules.Distribute) > 0 {
		return distribute(local, rules.Distribute, eps, sums)
	}
	for _, e := range eps {
		p := uint32(0)
		if len(rules.FailoverPriority) > 0 {
			p = labelPriority(local, rules.FailoverPriority, e)
		}
		if len(rules.FailoverPriority) == 0 || len(rules.Failover) > 0 {
			// Istio ranks by locality within each label priority; 0..4 are five ranks.
			p = 5*p + localityPriority(&local.Locality, rules.Failover, e)
		}
		e.Priority = p
	}
	compact(eps)
	return eps
}

// localityPriority is 0 in the same subzone, 1 in the zone, 2 in the region, 3
// elsewhere, 4 in a region that Failover does not name for ours.
func localityPriority(l *Locality, failover []Failover, e *Endpoint) uint32 {
	switch o := &e.Locality; {
	case l.Region != o.Region:
		for _, f := range failover {
			if f.From == l.Region {
				if o.Region != f.To {
					return 4
				}
				break
			}
		}
		return 3
	case l.Zone != o.Zone:
		return 2
	case l.Subzone != o.Subzone:
		return 1
	}
	return 0
}

func labelPriority(local *Place, labels []string, e *Endpoint) uint32 {
	for i, l := range labels {
		key, want, given := strings.Cut(l, "=")
		if !given {
			want = local.value(key)
		}
		if e.value(key) != want {
			return uint32(len(labels) - i)
		}
	}
	return 0
}

// compact closes gaps between priorities.
func compact(eps []*Endpoint) {
	var used []uint32
	for _, e := range eps {
		if !slices.Contains(used, e.Priority) {
			used = append(used, e.Priority)
		}
	}
	slices.Sort(used)
	for _, e := range eps {
		i, _ := slices.BinarySearch(used, e.Priority)
		e.Priority = uint32(i)
	}
}

// place is an endpoint's locality without its weight.
func place(e *Endpoint) Locality {
	l := e.Locality
	l.Weight = 0
	return l
}

func localityWeights(eps []*Endpoint) map[Locality]uint32 {
	sums := make(map[Locality]uint32)
	for _, e := range eps {
		sums[place(e)] += e.weight()
	}
	return sums
}

// distribute applies the first rule whose From matches. A pattern's weight is
// shared by its localities in proportion to theirs, rounded up; a locality that
// no pattern names is dropped.
func distribute(local *Place, rules []Distribute, eps []*Endpoint, sums map[Locality]uint32) []*Endpoint {
	for _, e := range eps {
		e.Priority = 0
	}
	for _, d := range rules {
		if !matches(&local.Locality, d.From) {
			continue
		}
		given := make(map[Locality]uint32)
		for _, to := range d.To {
			var hit []Locality
			total := uint64(0)
			for l, w := range sums {
				if _, done := given[l]; !done && matches(&l, to.Pattern) {
					hit = append(hit, l)
					total += uint64(w)
				}
			}
			for _, l := range hit {
				given[l] = uint32((uint64(sums[l])*uint64(to.Weight) + total - 1) / total)
			}
		}
		kept := make([]*Endpoint, 0, len(eps))
		for _, e := range eps {
			if w, ok := given[place(e)]; ok {
				e.Locality.Weight = w
				kept = append(kept, e)
			}
		}
		return kept
	}
	return eps
}

// matches reports whether a locality fits a pattern.
func matches(l *Locality, pattern string) bool {
	if pattern == "" || pattern == "*" {
		return true
	}
	region, rest, _ := strings.Cut(pattern, "/")
	zone, subzone, _ := strings.Cut(rest, "/")
	return part(region, l.Region) && part(zone, l.Zone) && part(subzone, l.Subzone)
}

func part(pattern, value string) bool {
	return pattern == "" || pattern == "*" || pattern == value
}
