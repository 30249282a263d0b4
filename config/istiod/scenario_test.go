package istiod

import (
	"os"
	"path/filepath"
	"testing"

	"waypoint.dev/waypoint/config"
)

// scenarios are what a real istiod generated (testdata: 1.31 with the objects beside
// them), each with what must hold of it. An older recording is loaded too where it
// is present.
var scenarios = map[string]func(t *testing.T, m *config.Model, s *config.Snapshot){}

// shared is where the older recording stands beside a checkout.
const shared = "../../../shared/istiod"

func TestScenarios(t *testing.T) {
	ran := 0
	for _, name := range sorted(scenarios) {
		dirs := []string{filepath.Join("testdata", name)}
		if full := filepath.Join(shared, name); exists(full) {
			dirs = append(dirs, full)
		}
		for i, dir := range dirs {
			t.Run(name+[]string{"", "/older"}[i], func(t *testing.T) {
				m := load(t, dir).Model()
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
				snap := compile(t, m)
				if i == 0 {
					scenarios[name](t, m, snap)
				}
			})
			ran++
		}
	}
	if ran < 10 {
		t.Fatalf("%d scenarios ran, want at least 10", ran)
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
