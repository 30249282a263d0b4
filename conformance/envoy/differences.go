package envoy

import (
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// Known is one entry of differences.yaml: a way in which answers may differ.
// Patterns are regular expressions over the whole text; an empty one matches anything.
type Known struct {
	Name   string   `json:"name"`
	Why    string   `json:"why"`              // with docs/compatibility.md for the reader
	Sides  []string `json:"sides,omitempty"`  // empty: all
	Kinds  []string `json:"kinds,omitempty"`  // of questions; empty: all
	Field  string   `json:"field"`            // of Difference
	Envoy  string   `json:"envoy,omitempty"`  // Difference.Envoy
	Other  string   `json:"other,omitempty"`  // Difference.Other
	Method string   `json:"method,omitempty"` // of the question
	Asks   string   `json:"asks,omitempty"`   // found in the request's bytes

	field, envoy, other, method, asks *regexp.Regexp
}

// LoadKnown reads differences.yaml.
func LoadKnown(path string) ([]*Known, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var list []*Known
	if err := yaml.UnmarshalStrict(b, &list); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	for _, k := range list {
		if k.Name == "" || k.Why == "" || k.Field == "" {
			return nil, fmt.Errorf("%s: %q: name, why and field are required", path, k.Name)
		}
		for from, to := range map[*string]**regexp.Regexp{&k.Field: &k.field, &k.Envoy: &k.envoy, &k.Other: &k.other, &k.Method: &k.method} {
			if *from == "" {
				continue
			}
			if *to, err = regexp.Compile("(?s)^(?:" + *from + ")$"); err != nil {
				return nil, fmt.Errorf("%s: %s: %w", path, k.Name, err)
			}
		}
		if k.Asks != "" {
			if k.asks, err = regexp.Compile("(?s)" + k.Asks); err != nil {
				return nil, fmt.Errorf("%s: %s: %w", path, k.Name, err)
			}
		}
	}
	return list, nil
}

func (k *Known) covers(d *Difference) bool {
	fits := func(r *regexp.Regexp, s string) bool { return r == nil || r.MatchString(s) }
	method := d.Question.Method
	if d.Question.Raw != nil {
		method, _, _ = strings.Cut(string(d.Question.Raw), " ")
	}
	return (len(k.Sides) == 0 || slices.Contains(k.Sides, d.Side)) && (len(k.Kinds) == 0 || slices.Contains(k.Kinds, d.Question.Kind)) &&
		fits(k.field, d.Field) && fits(k.envoy, d.Envoy) && fits(k.other, d.Other) && fits(k.method, method) && (k.asks == nil || k.asks.Match(d.Question.Bytes()))
}

// Sort splits differences into those that an entry covers, counted by its name,
// and the others.
func Sort(all []Difference, known []*Known) (counts map[string]int, unlisted []Difference) {
	counts = map[string]int{}
next:
	for i := range all {
		for _, k := range known {
			if k.covers(&all[i]) {
				counts[k.Name]++
				continue next
			}
		}
		unlisted = append(unlisted, all[i])
	}
	return counts, unlisted
}

// PrintKnown writes how often each entry was met.
func PrintKnown(w io.Writer, counts map[string]int, known []*Known) {
	for _, k := range known {
		fmt.Fprintf(w, "  %6d  %s\n", counts[k.Name], k.Name)
	}
}
