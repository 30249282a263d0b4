package main

import (
	"testing"

	"github.com/spf13/pflag"

	"waypoint.dev/waypoint/config/kube"
)

// The flags that say where the waypoint is reach the builder.
func TestNear(t *testing.T) {
	parse := func(args ...string) (kube.Options, error) {
		var f meshFlags
		fs := pflag.NewFlagSet("", pflag.ContinueOnError)
		f.register(fs)
		if err := fs.Parse(args); err != nil {
			t.Fatal(err)
		}
		return f.options()
	}
	o, err := parse("--locality", "r/z", "--node", "n1", "--labels", "app=x,v=2")
	if err != nil || o.Locality.Region != "r" || o.Locality.Zone != "z" || o.Locality.Subzone != "" || o.Node != "n1" || o.Labels["v"] != "2" || !o.UpstreamTLS {
		t.Errorf("%+v %v", o, err)
	}
	for _, bad := range []string{"a/b/c/d", "a//c", "/"} {
		if _, err := parse("--locality", bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}
