package mesh

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"waypoint.dev/waypoint/conformance/lab"
	"waypoint.dev/waypoint/conformance/lab/build"
	"waypoint.dev/waypoint/conformance/lab/sandbox"
)

// envKubeconfig makes the test binary run the suite against the lab of another process:
// the negative controls, which want it to fail, are such processes.
const envKubeconfig = "WAYPOINT_SUITE_KUBECONFIG"

const (
	// buildLimit is for an empty cache on a busy machine of two cores.
	buildLimit = 40 * time.Minute
	startLimit = 3 * time.Minute

	meshNamespace = "mesh-system"
	waypointName  = "waypoint"
)

var fresh = flag.Bool("build", true, "build the waypoint and its controller; false: take those of the last run")

// cluster is the lab that all tests share; nil in a child process.
var cluster *lab.Lab

var binaries *build.Binaries

// logs is where those of the lab are.
var logs string

func TestMain(m *testing.M) {
	flag.Parse()
	if os.Getenv(envKubeconfig) != "" {
		os.Exit(m.Run())
	}
	if err := sandbox.Enter(prepare); err != nil {
		fmt.Fprintln(os.Stderr, "mesh:", err)
		os.Exit(1)
	}
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "mesh:", err)
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
	_, err := customResources(repo)
	return err
}

func run(m *testing.M) (code int, err error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	repo, cache := build.Folders()
	binaries, err = build.All(ctx, repo, cache, false, os.Stdout)
	if err != nil {
		return 0, err
	}
	crds, err := customResources(repo)
	if err != nil {
		return 0, err
	}
	// What a run leaves is its logs; the next one takes their place.
	dir := filepath.Join(cache, "lab")
	if err := os.RemoveAll(dir); err != nil {
		return 0, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return 0, err
	}
	logs = filepath.Join(dir, "logs")
	out, err := os.Create(filepath.Join(dir, "lab.log"))
	if err != nil {
		return 0, err
	}
	defer out.Close()
	begin := time.Now()
	sctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	cluster, err = lab.Start(sctx, lab.Options{
		Binaries: binaries, Dir: dir, CRDs: crds,
		Log: slog.New(slog.NewTextHandler(out, nil)),
	})
	if err != nil {
		return 0, err
	}
	defer cluster.Close()
	up := time.Since(begin)
	if err := cluster.InstallController(sctx, filepath.Join(repo, "deploy", "chart"), map[string]any{}); err != nil {
		return 0, err
	}
	if _, err := cluster.Apply(sctx, gateway); err != nil {
		return 0, err
	}
	if err := cluster.WaitGateway(sctx, meshNamespace, waypointName); err != nil {
		return 0, err
	}
	// Own tests wait more than they compute. Those that need the mesh for themselves come
	// first, one after another.
	if err := flag.Set("test.parallel", "8"); err != nil {
		return 0, err
	}
	say("cluster up after %v, waypoint ready after %v", up.Round(time.Millisecond), time.Since(begin).Round(time.Millisecond))
	return m.Run(), nil
}

// say prints a line of the run's summary, which is seen without -v as well.
func say(format string, args ...any) { fmt.Printf(format+"\n", args...) }

// gateway is the waypoint of the suite's namespaces.
const gateway = `
apiVersion: v1
kind: Namespace
metadata: {name: mesh-system}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata:
  name: waypoint
  namespace: mesh-system
spec:
  gatewayClassName: waypoint
  listeners:
  - name: mesh
    port: 15008
    protocol: HBONE
    allowedRoutes: {namespaces: {from: All}}
`

// customResources finds the definitions of the Gateway API, of Istio and of our own.
func customResources(repo string) ([]string, error) {
	gatewayAPI, err := build.Module("sigs.k8s.io/gateway-api")
	if err != nil {
		return nil, err
	}
	istioAPI, err := build.Module("istio.io/api")
	if err != nil {
		return nil, err
	}
	return []string{
		// The experimental channel has HTTPRoute's retry, which own tests need.
		filepath.Join(gatewayAPI, "config", "crd", "experimental"),
		filepath.Join(istioAPI, "kubernetes", "customresourcedefinitions.gen.yaml"),
		filepath.Join(repo, "deploy", "chart", "crds"),
	}, nil
}
