package chart

import (
	"os"
	"path/filepath"
	"strings"
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

// TestBadValuesAreRefused: a slip in a value ends the installation, by the schema, and
// does not become a slip in a running controller.
func TestBadValuesAreRefused(t *testing.T) {
	section := func(name string, values ...any) map[string]any {
		m := map[string]any{}
		for i := 0; i < len(values); i += 2 {
			m[values[i].(string)] = values[i+1]
		}
		return map[string]any{name: m}
	}
	for name, values := range map[string]map[string]any{
		"an unknown identity":         section("identity", "mode", "magic"),
		"an unknown value":            {"replica": 3},
		"an unknown value below":      section("waypoint", "maxReplica", 3),
		"an unknown parameter":        section("waypoint", "parameters", map[string]any{"deploymnet": "x"}),
		"parameters that are no text": section("waypoint", "parameters", map[string]any{"deployment": map[string]any{"spec": 1}}),
		"no replica of a waypoint":    section("waypoint", "replicas", 0),
		"replicas in words":           {"replicas": "two"},
		"a controller without a path": section("gatewayClass", "controllerName", "waypoint"),
		"an unknown level":            section("log", "level", "loud"),
		"no flag":                     section("waypoint", "args", []any{"access-log=-"}),
	} {
		if _, err := lab.Render(chartDir, values); err == nil {
			t.Errorf("%s: rendered", name)
		}
	}
	if _, err := lab.Render(chartDir, map[string]any{"global": map[string]any{"a": 1}}); err != nil {
		t.Errorf("as a part of another chart: %v", err)
	}
}

// TestNotes: what is told after the installation names what was chosen.
func TestNotes(t *testing.T) {
	for _, c := range []struct {
		values        map[string]any
		want, wantNot []string
	}{
		{nil, []string{"get gatewayclass waypoint", "istio.io/use-waypoint=waypoint", "istiod.istio-system.svc:15012", "WARNING: image.repository"}, []string{"waypoint.enabled is false"}},
		{map[string]any{
			"image": map[string]any{"repository": "registry.test/w"}, "identity": map[string]any{"mode": "spiffe"},
			"gatewayClass": map[string]any{"create": false, "name": "mine", "controllerName": "a.test/b"}, "waypoint": map[string]any{"enabled": false},
		}, []string{"controllerName a.test/b", "gatewayClassName: mine", "a SPIFFE Workload API", "waypoint.enabled is false"}, []string{"WARNING", "get gatewayclass"}},
	} {
		notes, err := lab.Notes(chartDir, c.values)
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range c.want {
			if !strings.Contains(notes, w) {
				t.Errorf("it does not say %q:\n%s", w, notes)
			}
		}
		for _, w := range c.wantNot {
			if strings.Contains(notes, w) {
				t.Errorf("it says %q:\n%s", w, notes)
			}
		}
	}
}

// TestImage: the tag is the chart's appVersion unless one is given, for the waypoints as
// for the controller.
func TestImage(t *testing.T) {
	about, err := os.ReadFile(filepath.Join(chartDir, "Chart.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(about), `appVersion: "`)
	version, _, _ := strings.Cut(rest, `"`)
	plain := "example.com/mesh/waypoint:" + version
	for _, c := range []struct {
		values map[string]any
		want   []string
	}{
		{nil, []string{`image: "` + plain + `"`, "--waypoint-image=" + plain}},
		{map[string]any{"image": map[string]any{"tag": "v2"}}, []string{`image: "example.com/mesh/waypoint:v2"`, "--waypoint-image=example.com/mesh/waypoint:v2"}},
		{map[string]any{"waypoint": map[string]any{"image": "other:v3"}}, []string{`image: "` + plain + `"`, "--waypoint-image=other:v3"}},
	} {
		text, err := lab.Render(chartDir, c.values)
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range c.want {
			if !strings.Contains(text, w) {
				t.Errorf("%v: no %s", c.values, w)
			}
		}
	}
}
