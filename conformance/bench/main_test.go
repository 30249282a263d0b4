package main

import (
	"flag"
	"fmt"
	"os"
	"testing"
)

// TestMain is the backend process too: the test starts itself as one.
func TestMain(m *testing.M) {
	flag.Parse()
	if *backend != "" {
		if err := serveBackend(*backend, *pod); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}
