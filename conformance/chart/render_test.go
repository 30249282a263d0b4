package chart

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
)

const chartDir = "../../deploy/chart"

// render returns the chart's objects as Helm makes them of the values.
func render(t *testing.T, values map[string]any) (string, error) {
	t.Helper()
	c, err := loader.Load(chartDir)
	if err != nil {
		t.Fatal(err)
	}
	all, err := chartutil.ToRenderValues(c, values, chartutil.ReleaseOptions{Name: "waypoint-controller", Namespace: "waypoint-system", IsInstall: true}, nil)
	if err != nil {
		return "", err
	}
	files, err := (engine.Engine{Strict: true}).Render(c, all)
	if err != nil {
		return "", err
	}
	var out strings.Builder
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if strings.HasSuffix(name, ".yaml") && strings.TrimSpace(files[name]) != "" {
			out.WriteString("---\n" + files[name] + "\n")
		}
	}
	return out.String(), nil
}

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
	if _, err := render(t, map[string]any{"identity": map[string]any{"mode": "magic"}}); err == nil {
		t.Error("rendered")
	}
}
