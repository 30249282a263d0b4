package istiod

import (
	"path/filepath"
	"testing"

	"waypoint.dev/waypoint/config"
)

// scenarios are what a real istiod 1.31 generated of the objects beside it in testdata,
// each with what must hold of it.
var scenarios = map[string]func(t *testing.T, m *config.Model, s *config.Snapshot){}

func TestScenarios(t *testing.T) {
	ran := 0
	for _, name := range sorted(scenarios) {
		t.Run(name, func(t *testing.T) {
			m := load(t, filepath.Join("testdata", name)).Model()
			for _, p := range m.Problems {
				if p.Severity == config.Error {
					t.Errorf("%s %s: %s", p.Kind, p.Name, p.Message)
				}
			}
			for _, d := range m.Destinations {
				if d.Broken != "" {
					t.Errorf("%s is broken: %s", d.Key, d.Broken)
				}
				for i := range d.Routes {
					if d.Routes[i].Broken != "" {
						t.Errorf("%s rule %s is broken: %s", d.Key, d.Routes[i].Name, d.Routes[i].Broken)
					}
				}
			}
			scenarios[name](t, m, compile(t, m))
		})
		ran++
	}
	if ran < 10 {
		t.Fatalf("%d scenarios ran, want at least 10", ran)
	}
}
