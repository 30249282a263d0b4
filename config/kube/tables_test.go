package kube

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"waypoint.dev/waypoint/config"
)

// TestTables follows manifests to the tables that requests are matched by: every
// candidate in the order it is tried, and what each rule does.
func TestTables(t *testing.T) {
	base, err := os.ReadFile("testdata/base.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"routes", "mistakes", "filters", "parents", "serviceentry", "own"} {
		t.Run(name, func(t *testing.T) {
			in, err := os.ReadFile(filepath.Join("testdata", name+".in.yaml"))
			if err != nil {
				t.Fatal(err)
			}
			m := NewBuilder(Options{}).Build(store(t, string(base), string(in)))
			snap, _ := config.Compile(m, nil, config.Env{})
			var out bytes.Buffer
			for _, c := range snap.Chains() {
				d := c.Spec
				if len(d.Routes) == 0 && len(d.Consumers) == 0 {
					continue
				}
				fmt.Fprintf(&out, "== %s\n%s", d.Key, c.Table("").Dump(d.Refs))
				var clients []string
				for ns := range d.Consumers {
					clients = append(clients, ns)
				}
				slices.Sort(clients)
				for _, ns := range clients {
					fmt.Fprintf(&out, "== %s for clients of %s\n%s", d.Key, ns, c.Table(ns).Dump(d.Refs))
				}
			}
			golden := filepath.Join("testdata", name+".tables.golden")
			if *update {
				if err := os.WriteFile(golden, out.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(want, out.Bytes()) || !strings.Contains(out.String(), "candidates:") {
				t.Errorf("differs from %s; got:\n%s", golden, out.Bytes())
			}
		})
	}
}
