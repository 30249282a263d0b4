package chart

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"waypoint.dev/waypoint/conformance/lab"
	"waypoint.dev/waypoint/conformance/lab/build"
	"waypoint.dev/waypoint/conformance/lab/sandbox"
)

const (
	// buildLimit is for an empty cache on a busy machine of two cores.
	buildLimit = 40 * time.Minute
	startLimit = 3 * time.Minute
)

var fresh = flag.Bool("build", true, "build the waypoint and its controller; false: take those of the last run")

// cluster is the lab that all tests share.
var cluster *lab.Lab

func TestMain(m *testing.M) {
	flag.Parse()
	if err := sandbox.Enter(prepare); err != nil {
		fmt.Fprintln(os.Stderr, "chart:", err)
		os.Exit(1)
	}
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "chart:", err)
		code = 1
	}
	os.Exit(code)
}

// prepare builds and downloads what is missing, outside of the namespaces, where there is
// a network.
func prepare() error {
	ctx, cancel := context.WithTimeout(context.Background(), buildLimit)
	defer cancel()
	repo, cache := build.Folders()
	if _, err := build.All(ctx, repo, cache, *fresh, os.Stdout); err != nil {
		return err
	}
	for _, m := range []string{"istio.io/api", "sigs.k8s.io/gateway-api"} {
		if _, err := build.Module(m); err != nil {
			return err
		}
	}
	return nil
}

func run(m *testing.M) (code int, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	repo, cache := build.Folders()
	bins, err := build.All(ctx, repo, cache, false, os.Stdout)
	if err != nil {
		return 0, err
	}
	gatewayAPI, err := build.Module("sigs.k8s.io/gateway-api", "config", "crd", "standard")
	if err != nil {
		return 0, err
	}
	dir := filepath.Join(cache, "chart")
	if err := os.RemoveAll(dir); err != nil {
		return 0, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return 0, err
	}
	logs, err := os.Create(filepath.Join(dir, "lab.log"))
	if err != nil {
		return 0, err
	}
	defer logs.Close()
	cluster, err = lab.Start(ctx, lab.Options{
		Binaries: bins, Dir: dir, Log: slog.New(slog.NewTextHandler(logs, nil)),
		// Istio's definitions come later, in a test.
		CRDs: []string{gatewayAPI, filepath.Join(chartDir, "crds")},
	})
	if err != nil {
		return 0, err
	}
	defer cluster.Close()
	return m.Run(), nil
}
