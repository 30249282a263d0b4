package istiod

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"waypoint.dev/waypoint/config"
)

// TestUpdatesEqualFresh makes changes in any order, with models in between, and
// compares the last model with that of a world that was given the end state at once.
func TestUpdatesEqualFresh(t *testing.T) {
	m := &mesh{services: 4, endpoints: 3}
	clusters, listener := m.clusters(t), m.listener(t)
	show := func(model *config.Model) (out []string) {
		for _, w := range model.Workloads {
			out = append(out, fmt.Sprintf("%s %s %v %s", w.UID, w.Name, w.Addrs, w.ServiceAccount))
		}
		for _, k := range sorted(model.Backends) {
			for _, e := range model.Backends[k].Endpoints {
				out = append(out, fmt.Sprintf("%s %s %s %d %v", k, e.Key, e.Identity, e.Weight, e.Workload != nil))
			}
		}
		return out
	}
	rapid.Check(t, func(r *rapid.T) {
		w := NewWorld(testOptions())
		state := map[string]map[string]Resource{ClusterType: {}, EndpointsType: {}, ListenerType: {listener.Name: listener}, WorkloadType: {}}
		w.Apply(ListenerType, []Resource{listener}, nil)
		for range rapid.IntRange(1, 15).Draw(r, "steps") {
			i := rapid.IntRange(0, m.services-1).Draw(r, "service")
			j := rapid.IntRange(0, m.endpoints-1).Draw(r, "endpoint")
			var typ string
			var res Resource
			switch rapid.IntRange(0, 3).Draw(r, "type") {
			case 0:
				typ, res = ClusterType, clusters[i]
			case 1:
				typ, res = EndpointsType, m.assignment(t, i, j+1)
			default:
				account := rapid.SampledFrom([]string{"a", "b"}).Draw(r, "account")
				typ, res = WorkloadType, podResource(t, m.pod(i, j), fmt.Sprintf("pod-%d-%d", i, j), account)
			}
			if rapid.IntRange(0, 3).Draw(r, "remove") == 0 {
				delete(state[typ], res.Name)
				w.Apply(typ, nil, []string{res.Name})
			} else {
				state[typ][res.Name] = res
				w.Apply(typ, []Resource{res}, nil)
			}
			if rapid.Bool().Draw(r, "build") {
				w.Model()
			}
		}
		fresh := NewWorld(testOptions())
		for _, typ := range []string{ClusterType, EndpointsType, ListenerType, WorkloadType} {
			fresh.Apply(typ, slices.Collect(maps.Values(state[typ])), nil)
		}
		if got, want := show(w.Model()), show(fresh.Model()); !slices.Equal(got, want) {
			r.Fatalf("after updates\n%q\nwant\n%q", got, want)
		}
	})
}
