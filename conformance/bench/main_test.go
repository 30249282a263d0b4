package main

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"waypoint.dev/waypoint/conformance/measure"
)

// TestMain is the backend process too: the test starts itself as one.
func TestMain(m *testing.M) {
	flag.Parse()
	if *backend != "" {
		if err := measure.ServeBackend(*backend, *pod+":15008", trustDomain); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}
