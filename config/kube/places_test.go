package kube

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"waypoint.dev/waypoint/config"
)

const places = `
{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"shop","labels":{"istio.io/use-waypoint":"waypoint","team":"a"}}}
{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"bank","labels":{"istio.io/use-waypoint":"waypoint","istio.io/use-waypoint-namespace":"shop","team":"b"}}}
{"apiVersion":"gateway.networking.k8s.io/v1","kind":"Gateway","metadata":{"name":"waypoint","namespace":"shop"},"spec":{"gatewayClassName":"waypoint","listeners":[{"name":"mesh","port":15008,"protocol":"HBONE","allowedRoutes":{"namespaces":{"from":"Selector","selector":{"matchLabels":{"team":"a"}}}}}]}}
{"apiVersion":"v1","kind":"Node","metadata":{"name":"n1","labels":{"topology.kubernetes.io/region":"r","topology.kubernetes.io/zone":"z1"}}}
{"apiVersion":"v1","kind":"Node","metadata":{"name":"n2","labels":{"topology.kubernetes.io/region":"r","topology.kubernetes.io/zone":"z2"}}}
{"apiVersion":"v1","kind":"Node","metadata":{"name":"n3","labels":{"topology.kubernetes.io/region":"r","topology.kubernetes.io/zone":"z2"}}}
{"apiVersion":"v1","kind":"Service","metadata":{"name":"s","namespace":"shop"},"spec":{"clusterIP":"10.0.0.1","trafficDistribution":"PreferSameZone","ports":[{"name":"http","port":80}]}}
{"apiVersion":"v1","kind":"Service","metadata":{"name":"b","namespace":"bank"},"spec":{"clusterIP":"10.0.0.2","ports":[{"name":"http","port":80}]}}
{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p1","namespace":"shop"},"spec":{"nodeName":"n1"},"status":{"phase":"Running","podIPs":[{"ip":"10.1.0.1"}]}}
{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":{"name":"s-x","namespace":"shop","labels":{"kubernetes.io/service-name":"s"}},"addressType":"IPv4","ports":[{"name":"http","port":80}],"endpoints":[{"addresses":["10.1.0.1"],"targetRef":{"kind":"Pod","name":"p1"}},{"addresses":["10.1.0.2"],"nodeName":"n2"}]}
`

// nearFirst returns the addresses of a backend's endpoints of the first priority.
func nearFirst(m *config.Model) (out []string) {
	for _, e := range m.Backends["s.shop.svc.cluster.local|80"].Endpoints {
		if e.Priority == 0 {
			out = append(out, e.Addr.Addr().String())
		}
	}
	return out
}

// A waypoint is where its node is, and all that changes of nodes and namespaces gives
// what building anew does.
func TestPlaces(t *testing.T) {
	s := NewObjects()
	for _, o := range objectsOf(t, places) {
		s.Put(o)
	}
	for _, tc := range []struct {
		node string
		told string // its zone
		near string
	}{
		{"n1", "", "[10.1.0.1]"},
		{"n2", "", "[10.1.0.2]"},
		{"gone", "", "[10.1.0.1 10.1.0.2]"},
		{"n1", "z2", "[10.1.0.2]"},
	} {
		o := Options{Waypoint: config.Owner{Namespace: "shop", Name: "waypoint"}, Node: tc.node}
		if tc.told != "" {
			o.Locality.Region, o.Locality.Zone = "r", tc.told
		}
		if got := fmt.Sprint(nearFirst(NewBuilder(o).Build(s))); got != tc.near {
			t.Errorf("on %s, told %q: near are %s, want %s", tc.node, tc.told, got, tc.near)
		}
	}

	o := Options{Waypoint: config.Owner{Namespace: "shop", Name: "waypoint"}, Node: "n3"}
	b := NewBuilder(o)
	b.Build(s)
	node := `{"apiVersion":"v1","kind":"Node","metadata":{"name":"%s","labels":{"topology.kubernetes.io/region":"r","topology.kubernetes.io/zone":"%s"}}}`
	space := `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"%s","labels":{"istio.io/use-waypoint":"%s","istio.io/use-waypoint-namespace":"shop","team":"%s"}}}`
	for _, tc := range []struct {
		name  string
		json  string // empty: n2 is deleted
		whole bool
	}{
		{"a new node", fmt.Sprintf(node, "n9", "z9"), false},
		{"a pod's node in another zone", fmt.Sprintf(node, "n1", "z2"), false},
		{"an endpoint's node in another zone", fmt.Sprintf(node, "n2", "z1"), false},
		{"the node of an endpoint is gone", "", false},
		{"the waypoint's node in another zone", fmt.Sprintf(node, "n3", "z1"), true},
		{"a new namespace", fmt.Sprintf(space, "new", "waypoint", "a"), false},
		{"a choice in other words", fmt.Sprintf(space, "shop", "waypoint", "a"), true},
		{"a namespace that the Gateway now admits", fmt.Sprintf(space, "bank", "waypoint", "a"), true},
		{"a namespace that chooses none", fmt.Sprintf(space, "bank", "none", "a"), true},
	} {
		if tc.json != "" {
			s.Put(objectsOf(t, tc.json)[0])
		} else {
			s.Delete(Key{"", "Node", "", "n2"})
		}
		before := b.last
		got, want := b.Build(s), NewBuilder(o).Build(s)
		if !reflect.DeepEqual(got.Destinations, want.Destinations) || !reflect.DeepEqual(got.Backends, want.Backends) || !reflect.DeepEqual(got.Workloads, want.Workloads) || !reflect.DeepEqual(got.Problems, want.Problems) {
			t.Errorf("%s: not what building anew gives", tc.name)
		}
		if whole := b.last != before; whole != tc.whole {
			t.Errorf("%s: built anew: %t", tc.name, whole)
		}
	}
}

// objectsOf decodes objects, one a line.
func objectsOf(t *testing.T, lines string) (out []*Object) {
	t.Helper()
	for _, line := range strings.Split(strings.TrimSpace(lines), "\n") {
		o, err := Decode([]byte(line), "test")
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, o)
	}
	return out
}
