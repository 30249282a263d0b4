package istiod

import (
	"path/filepath"
	"testing"

	"waypoint.dev/waypoint/config"
)

// What guards a destination stands before faults and CORS in every chain that istiod
// sends: a fault hits only requests that policies let pass, and tells nobody else.
func TestGuardsComeBeforeFaults(t *testing.T) {
	guards := map[config.StageKind]int{config.StageCustom: 0, config.StageJWT: 0, config.StageAuthz: 0}
	faults := 0
	for _, name := range sorted(scenarios) {
		for _, c := range compile(t, load(t, filepath.Join("testdata", name)).Model()).Chains() {
			injected := false
			for i := range c.Stages {
				switch k := c.Stages[i].Kind; k {
				case config.StageFault, config.StageCORS:
					injected = true
					faults++
				case config.StageCustom, config.StageJWT, config.StageAuthz:
					guards[k]++
					if injected {
						t.Errorf("%s %s: stage %d guards behind a fault or CORS", name, c.Spec.Key, i)
					}
				}
			}
		}
	}
	if faults == 0 || guards[config.StageCustom] == 0 || guards[config.StageJWT] == 0 || guards[config.StageAuthz] == 0 {
		t.Fatalf("the scenarios show nothing: %d faults, guards %v", faults, guards)
	}
}
