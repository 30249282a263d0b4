package kube

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"waypoint.dev/waypoint/config"
)

var update = flag.Bool("update", false, "write the golden files")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// store parses manifests into a fresh store.
func store(t testing.TB, manifests ...string) *Objects {
	t.Helper()
	s := NewObjects()
	for _, m := range manifests {
		put(t, s, m)
	}
	return s
}

func put(t testing.TB, s *Objects, manifest string) {
	t.Helper()
	objs, err := Parse("test.yaml", []byte(manifest))
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range objs {
		s.Put(o)
	}
}

// TestGolden builds each input, beside base.yaml where its name does not start with
// "alone", and compares what would be served. Where its name starts with "near" the
// waypoint knows where it is.
func TestGolden(t *testing.T) {
	inputs, err := filepath.Glob("testdata/*.in.yaml")
	if err != nil || len(inputs) == 0 {
		t.Fatal("no inputs", err)
	}
	base, err := os.ReadFile("testdata/base.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, in := range inputs {
		name := filepath.Base(in)
		t.Run(name, func(t *testing.T) {
			data, err := os.ReadFile(in)
			if err != nil {
				t.Fatal(err)
			}
			s := NewObjects()
			if !bytes.HasPrefix([]byte(name), []byte("alone")) {
				put(t, s, string(base))
			}
			objs, err := Parse(name, data)
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range objs {
				s.Put(o)
			}
			o := Options{}
			if strings.HasPrefix(name, "near") {
				o.Locality.Region, o.Locality.Zone, o.Node, o.UpstreamTLS = "r1", "z1", "node-1", true
			}
			b := NewBuilder(o)
			m := b.Build(s)
			var out bytes.Buffer
			Print(&out, m)
			b.Statuses().Print(&out)
			golden := in[:len(in)-len(".in.yaml")] + ".golden"
			if *update {
				if err := os.WriteFile(golden, out.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(want, out.Bytes()) {
				t.Errorf("differs from %s; got:\n%s", golden, out.Bytes())
			}
			if sn, _ := config.Compile(m, nil, config.Env{}); len(sn.Chains()) != len(m.Destinations) {
				t.Errorf("%d chains of %d destinations", len(sn.Chains()), len(m.Destinations))
			}
		})
	}
}
