package authz

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"waypoint.dev/waypoint/internal/attrs"
	"waypoint.dev/waypoint/internal/urlpath"
)

// TestTemplateVectors runs the vectors through the whole way of a request:
// normalization, rule and engine, in the positive and in the not form.
func TestTemplateVectors(t *testing.T) {
	var v struct {
		Match []struct {
			ID                         int
			Template, Mode, Sent, Seen string
			Match                      bool
		}
		Grammar []struct {
			ID       int
			Template string
			Usable   bool
			Istio    string
		}
	}
	data, err := os.ReadFile("testdata/templates.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	if n := len(v.Match) + len(v.Grammar); n != 149 {
		t.Fatalf("%d vectors, want 149", n)
	}
	modes := map[string]urlpath.Mode{
		"NONE": urlpath.None, "BASE": urlpath.Base,
		"MERGE_SLASHES": urlpath.MergeSlashes, "DECODE_AND_MERGE_SLASHES": urlpath.DecodeAndMergeSlashes,
	}
	for _, x := range v.Match {
		target, _, _ := strings.Cut(x.Sent, "#") // the proxy drops a fragment
		raw, _, _ := strings.Cut(target, "?")
		path, ok, _ := urlpath.Normalize(nil, raw, modes[x.Mode])
		if !ok || path != x.Seen {
			t.Errorf("vector %d: %q is seen as %q, want %q", x.ID, x.Sent, path, x.Seen)
		}
		for _, not := range []bool{false, true} {
			op := Operation{Paths: []string{x.Template}}
			if not {
				op = Operation{NotPaths: []string{x.Template}}
			}
			rule, err := NewRule("n", "p", 0, Deny, &RuleSpec{To: []Operation{op}}, Scope{})
			if err != nil {
				t.Errorf("vector %d: %v", x.ID, err)
				continue
			}
			e := Compile([]Policy{{Action: Deny, Rules: []Rule{rule}}})
			if d := e.Check(&attrs.Request{Path: path}); d.Allowed != (x.Match == not) {
				t.Errorf("vector %d: %s on %q, not %v: allowed %v", x.ID, x.Template, path, not, d.Allowed)
			}
		}
	}
	for _, x := range v.Grammar {
		_, err := (&RuleSpec{To: []Operation{{Paths: []string{x.Template}}}}).Expr(Scope{})
		if (err == nil) != x.Usable {
			t.Errorf("vector %d: %q: error %v, want usable %v", x.ID, x.Template, err, x.Usable)
		}
	}
}
