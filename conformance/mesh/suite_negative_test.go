package mesh

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"waypoint.dev/waypoint/conformance/lab"
	"waypoint.dev/waypoint/conformance/lab/kubelet"
)

// TestForwardOnly puts a proxy in the waypoint's place that knows no routes: a suite that
// passes with it would prove nothing.
func TestForwardOnly(t *testing.T) {
	const wantFailed = 15
	table := filepath.Join(t.TempDir(), "forward")
	if err := os.WriteFile(table, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go publishEndpoints(ctx, table)
	img := cluster.WaypointImage()
	img.Files = map[string]string{"/usr/local/bin/waypoint": binaries.Forwarder, "/forward": filepath.Dir(table)}
	img.Env = []string{"FORWARD=/forward/forward"}
	replaceWaypoint(t, img)
	out := runSuite(t)
	failed, passed := results(out)
	say("with a forward-only waypoint %d of the suite's tests fail; %v passes", len(failed), passed)
	if len(failed) < wantFailed || len(failed)+len(passed) != meshTests {
		t.Errorf("%d tests failed and %d passed, want %d of %d to fail", len(failed), len(passed), wantFailed, meshTests)
	}
}

// TestKilled runs the suite without any waypoint.
func TestKilled(t *testing.T) {
	replaceWaypoint(t, kubelet.Image{Entrypoint: []string{"/absent"}})
	out := runSuite(t)
	failed, _ := results(out)
	say("without a waypoint %d of the suite's tests fail", len(failed))
	if len(failed) < meshTests {
		t.Errorf("only %d of %d tests failed:\n%s", len(failed), meshTests, out)
	}
}

// replaceWaypoint makes the waypoint's pods run another image until the test ends.
func replaceWaypoint(t *testing.T, img kubelet.Image) {
	restart := func() {
		err := cluster.Client.CoreV1().Pods(meshNamespace).DeleteCollection(context.Background(), metav1.DeleteOptions{GracePeriodSeconds: new(int64)}, metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
	}
	cluster.Kubelet.SetImage(lab.ImageWaypoint, img)
	restart()
	t.Cleanup(func() {
		cluster.Kubelet.SetImage(lab.ImageWaypoint, cluster.WaypointImage())
		restart()
		ctx, cancel := context.WithTimeout(context.Background(), startLimit)
		defer cancel()
		if err := cluster.WaitDeployment(ctx, meshNamespace, waypointName); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), startLimit)
	defer cancel()
	if len(img.Files) > 0 {
		if err := cluster.WaitDeployment(ctx, meshNamespace, waypointName); err != nil {
			t.Fatal(err)
		}
		return
	}
	if err := lab.Wait(ctx, "the end of the waypoint", func() (bool, error) {
		svc := cluster.View.ServiceNamed(meshNamespace, waypointName)
		return svc != nil && len(cluster.View.Endpoints(svc, 15008)) == 0, nil
	}); err != nil {
		t.Fatal(err)
	}
}

// publishEndpoints keeps the forwarder's table.
func publishEndpoints(ctx context.Context, table string) {
	for {
		var out strings.Builder
		list, err := cluster.Client.CoreV1().Services("").List(ctx, metav1.ListOptions{})
		if err == nil {
			for i := range list.Items {
				svc := &list.Items[i]
				if svc.Spec.ClusterIP == corev1.ClusterIPNone {
					continue
				}
				for _, p := range svc.Spec.Ports {
					for _, to := range cluster.View.Endpoints(svc, uint16(p.Port)) {
						fmt.Fprintf(&out, "%s:%d %v\n", svc.Spec.ClusterIP, p.Port, to)
					}
				}
			}
			_ = os.WriteFile(table+".new", []byte(out.String()), 0o644)
			_ = os.Rename(table+".new", table)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// patience is that of a run that is to fail: nothing can come that is worth waiting for.
const patience = 500 * time.Millisecond

// runSuite runs the suite in a process of its own, with little patience, and returns what
// it prints; it must fail.
func runSuite(t *testing.T) string {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, "-test.run", "^TestSuite$", "-test.v", "-test.parallel", "16")
	cmd.Env = append(os.Environ(), envKubeconfig+"="+cluster.Kubeconfig, envPatience+"="+patience.String(), "REPORT=")
	out, err := cmd.CombinedOutput()
	if err == nil {
		t.Error("the suite passes")
	}
	if err := os.WriteFile(filepath.Join(logs, t.Name()+".log"), out, 0o644); err != nil {
		t.Fatal(err)
	}
	return string(out)
}

var resultLine = regexp.MustCompile(`(?m)^    --- (PASS|FAIL): TestSuite/(\w+) `)

// results returns the suite's tests that failed and that passed.
func results(out string) (failed, passed []string) {
	for _, m := range resultLine.FindAllStringSubmatch(out, -1) {
		if m[1] == "FAIL" {
			failed = append(failed, m[2])
		} else {
			passed = append(passed, m[2])
		}
	}
	return failed, passed
}
