package chart

import (
	"os"
	"path/filepath"
	"testing"

	"waypoint.dev/waypoint/conformance/lab"
)

const chartDir = "../../deploy/chart"

// TestChartHoldsTheDefinitions: Helm takes definitions from the chart only.
func TestChartHoldsTheDefinitions(t *testing.T) {
	files, err := filepath.Glob("../../deploy/crds/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		want, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(chartDir, "crds", filepath.Base(f)))
		if err != nil || string(got) != string(want) {
			t.Errorf("deploy/chart/crds/%s is not %s: %v", filepath.Base(f), f, err)
		}
	}
}

func TestUnknownIdentityIsRefused(t *testing.T) {
	if _, err := lab.Render(chartDir, map[string]any{"identity": map[string]any{"mode": "magic"}}); err == nil {
		t.Error("rendered")
	}
}
