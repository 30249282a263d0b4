package istiod

import (
	"testing"

	"waypoint.dev/waypoint/config"
)

// FuzzApply gives any bytes as any resource: nothing panics, what is refused leaves
// the world as it was, and the model always compiles.
func FuzzApply(f *testing.F) {
	m := &mesh{services: 2, endpoints: 2, filters: map[int]string{
		0: httpFilter("f", "rbac.v3.RBAC", `"rules":{"policies":{"ns[a]-policy[b]-rule[0]":{"permissions":[{"url_path":{"path":{"prefix":"/x"}}}],"principals":[{"any":true}]}}}`),
	}}
	types := []string{ClusterType, EndpointsType, ListenerType, WorkloadType, AddressType, ExtensionType, SecretType}
	res := m.resources(f)
	for typ, rs := range res {
		for i, known := range types {
			if known == typ {
				f.Add(byte(i), rs[0].Body)
			}
		}
	}
	f.Add(byte(5), wire(f, extensionConfig(f, `"config":{}`)))
	f.Add(byte(6), []byte("\n\x01x"))
	f.Fuzz(func(t *testing.T, kind byte, body []byte) {
		w := NewWorld(testOptions())
		apply(t, w, res)
		typ := types[int(kind)%len(types)]
		name := map[string]string{ListenerType: mainInternal, WorkloadType: "w"}[typ]
		if name == "" {
			name = m.name(0)
		}
		before := w.Model()
		if errs := w.Apply(typ, []Resource{{name, "2", body}}, nil); len(errs) > 0 {
			if d, b := changed(before, w.Model()); d+b != 0 {
				t.Fatalf("refused with %v, and yet %d destinations and %d backends changed", errs[0], d, b)
			}
			return
		}
		config.Compile(w.Model(), nil, config.Env{})
	})
}
