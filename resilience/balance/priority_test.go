package balance

import (
	"slices"
	"testing"
)

var home = Place{
	Locality: Locality{Region: "r1", Zone: "z1", Subzone: "s1"}, Network: "n1", Node: "node1",
	Labels: map[string]string{"version": "v1"},
}

// at makes endpoints from "region/zone/subzone" in order.
func at(places ...[3]string) []*Endpoint {
	eps := endpoints(len(places))
	for i, p := range places {
		eps[i].Locality = Locality{Region: p[0], Zone: p[1], Subzone: p[2]}
		eps[i].Labels = map[string]string{}
	}
	return eps
}

func priorities(eps []*Endpoint) (out []uint32) {
	for _, e := range eps {
		out = append(out, e.Priority)
	}
	return out
}

func TestPrioritize(t *testing.T) {
	near := [][3]string{{"r1", "z1", "s1"}, {"r1", "z1", "s2"}, {"r1", "z2", "s1"}, {"r2", "z1", "s1"}, {"r3", "z1", "s1"}}
	labelled := func(eps []*Endpoint) []*Endpoint {
		for i, n := range []string{"n1", "n1", "n1", "n2", "n1"} {
			eps[i].Labels[LabelNetwork] = n
			eps[i].Labels[LabelNode] = "node1"
			eps[i].Labels["version"] = []string{"v1", "v2"}[i%2]
		}
		return eps
	}
	for _, c := range []struct {
		name  string
		rules LocalityRules
		eps   []*Endpoint
		want  []uint32
	}{
		{"by locality", LocalityRules{}, at(near...), []uint32{0, 1, 2, 3, 3}},
		{"gaps are closed", LocalityRules{}, at(near[2], near[4]), []uint32{0, 1}},
		{"failover", LocalityRules{Failover: []Failover{{"r1", "r3"}}}, at(near...), []uint32{0, 1, 2, 4, 3}},
		{"failover of others", LocalityRules{Failover: []Failover{{"r9", "r3"}}}, at(near...), []uint32{0, 1, 2, 3, 3}},
		{"labels", LocalityRules{FailoverPriority: []string{LabelRegion, LabelZone}}, at(near...), []uint32{0, 0, 1, 2, 2}},
		{"label of pods", LocalityRules{FailoverPriority: []string{"version"}}, labelled(at(near...)), []uint32{0, 1, 0, 1, 0}},
		{"label with value", LocalityRules{FailoverPriority: []string{"version=v2"}}, labelled(at(near...)), []uint32{1, 0, 1, 0, 1}},
		{"labels, then failover", LocalityRules{FailoverPriority: []string{"version"}, Failover: []Failover{{"r1", "r3"}}},
			labelled(at(near...)), []uint32{0, 3, 1, 4, 2}},
		{"PreferClose", LocalityRules{FailoverPriority: TrafficDistribution("PreferClose")}, labelled(at(near...)), []uint32{0, 0, 1, 3, 2}},
		{"PreferSameZone", LocalityRules{FailoverPriority: TrafficDistribution("PreferSameZone")}, labelled(at(near...)), []uint32{0, 0, 1, 3, 2}},
		{"PreferSameNode", LocalityRules{FailoverPriority: TrafficDistribution("PreferSameNode")}, labelled(at(near...)), []uint32{0, 1, 2, 4, 3}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := Prioritize(&home, &c.rules, c.eps)
			if p := priorities(got); !slices.Equal(p, c.want) {
				t.Errorf("priorities %v, want %v", p, c.want)
			}
		})
	}
	if TrafficDistribution("Other") != nil {
		t.Error("an unknown traffic distribution means something")
	}
}

func TestDistribute(t *testing.T) {
	places := [][3]string{{"r1", "z1", "a"}, {"r1", "z1", "b"}, {"r1", "z2", ""}, {"r2", "z1", ""}}
	weights := func(eps []*Endpoint) (out []uint32) {
		for _, e := range eps {
			out = append(out, e.Locality.Weight)
		}
		return out
	}
	for _, c := range []struct {
		name  string
		rules []Distribute
		want  []uint32
	}{
		{"exact", []Distribute{{"r1/z1/*", []LocalityShare{{"r1/z1/*", 80}, {"r1/z2/*", 20}}}}, []uint32{40, 40, 20}},
		{"region", []Distribute{{"r1/*", []LocalityShare{{"r1/*", 99}, {"r2/*", 1}}}}, []uint32{33, 33, 33, 1}},
		{"rounded up", []Distribute{{"*", []LocalityShare{{"r1/*", 10}}}}, []uint32{4, 4, 4}},
		{"from elsewhere", []Distribute{{"r2/*", []LocalityShare{{"r1/*", 10}}}}, []uint32{1, 1, 1, 1}},
		{"first match", []Distribute{{"r1/z1", []LocalityShare{{"r2", 7}}}, {"r1", []LocalityShare{{"r1", 7}}}}, []uint32{7}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := weights(Prioritize(&home, &LocalityRules{Distribute: c.rules}, at(places...)))
			if !slices.Equal(got, c.want) {
				t.Errorf("weights %v, want %v", got, c.want)
			}
		})
	}
}
