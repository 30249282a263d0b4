package main

import (
	"encoding/json"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

const chart = "../../deploy/chart/"

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// schema is the part of JSON Schema that says which values there are.
type schema struct {
	Type       string            `json:"type"`
	Properties map[string]schema `json:"properties"`
	Further    any               `json:"additionalProperties"`
}

// closed reports whether a schema lists all that an object may hold.
func (s schema) closed() bool { return s.Further == false }

// TestValuesAreDocumented holds the chart's values, their schema and its README together.
func TestValuesAreDocumented(t *testing.T) {
	var values map[string]any
	if err := yaml.Unmarshal(read(t, chart+"values.yaml"), &values); err != nil {
		t.Fatal(err)
	}
	var root schema
	if err := json.Unmarshal(read(t, chart+"values.schema.json"), &root); err != nil {
		t.Fatal(err)
	}
	readme := string(read(t, chart+"README.md"))
	var known []string
	var walk func(path string, v map[string]any, s schema)
	walk = func(path string, v map[string]any, s schema) {
		if !s.closed() {
			t.Errorf("the schema lets anything stand below %q", path)
		}
		for k, x := range v {
			p, sub := strings.TrimPrefix(path+"."+k, "."), s.Properties[k]
			if sub.Type == "" {
				t.Errorf("the schema does not know %s", p)
				continue
			}
			if m, ok := x.(map[string]any); ok && sub.closed() && p != "resources" && p != "waypoint.parameters" {
				walk(p, m, sub)
				continue
			}
			known = append(known, p)
			if !strings.Contains(readme, "\n| `"+p+"` |") {
				t.Errorf("README.md does not list %s", p)
			}
		}
		for k := range s.Properties {
			if _, ok := v[k]; !ok && path+k != "global" {
				t.Errorf("values.yaml has no %s.%s, which the schema does", path, k)
			}
		}
	}
	walk("", values, root)
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\|").FindAllStringSubmatch(readme, -1) {
		if !slices.Contains(known, m[1]) {
			t.Errorf("README.md lists %s, which is no value", m[1])
		}
	}
	used := regexp.MustCompile(`\.Values\.([A-Za-z.]+)`)
	seen := map[string]bool{}
	for _, f := range []string{"deployment.yaml", "rbac.yaml", "service.yaml", "class.yaml", "_helpers.tpl", "NOTES.txt"} {
		for _, m := range used.FindAllSubmatch(read(t, chart+"templates/"+f), -1) {
			seen[string(m[1])] = true
		}
	}
	for v := range maps.Keys(seen) {
		if !slices.Contains(known, v) {
			t.Errorf("a template uses %s, which is no value", v)
		}
	}
	for _, v := range known {
		if !seen[v] {
			t.Errorf("no template uses %s", v)
		}
	}
}

// TestChartSetsFlagsThatExist: a flag that is gone would stop the installed controller.
func TestChartSetsFlagsThatExist(t *testing.T) {
	flags := command().Flags()
	found := regexp.MustCompile(`--([a-z][a-z-]*)=`).FindAllSubmatch(read(t, chart+"templates/deployment.yaml"), -1)
	if len(found) < 25 {
		t.Fatalf("%d flags: is the pattern right?", len(found))
	}
	for _, m := range found {
		if flags.Lookup(string(m[1])) == nil {
			t.Errorf("the chart sets --%s, which the controller does not have", m[1])
		}
	}
}
