package kubelet

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiresource "k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/intstr"

	"waypoint.dev/waypoint/conformance/lab/sandbox"
)

func quantity(s string) apiresource.Quantity { return apiresource.MustParse(s) }

// probed is a container without a process at 127.0.0.1.
func probed(t *testing.T, ports ...corev1.ContainerPort) *container {
	pod := appPod(corev1.Container{Ports: ports})
	return &container{w: workerOf(t, pod), spec: &pod.Spec.Containers[0]}
}

func TestCheck(t *testing.T) {
	var status atomic.Int32
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Probe") != "yes" || r.URL.Path != "/ready" {
			w.WriteHeader(http.StatusTeapot)
			return
		}
		w.WriteHeader(int(status.Load()))
	})
	plain, secure := httptest.NewServer(h), httptest.NewTLSServer(h)
	defer plain.Close()
	defer secure.Close()
	port := func(s *httptest.Server) int32 {
		u, err := url.Parse(s.URL)
		if err != nil {
			t.Fatal(err)
		}
		n, err := strconv.Atoi(u.Port())
		if err != nil {
			t.Fatal(err)
		}
		return int32(n)
	}
	c := probed(t, corev1.ContainerPort{Name: "web", ContainerPort: port(plain)}, corev1.ContainerPort{Name: "tls", ContainerPort: port(secure)})
	get := func(port intstr.IntOrString, scheme corev1.URIScheme) *corev1.Probe {
		return &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/ready", Port: port, Scheme: scheme, HTTPHeaders: []corev1.HTTPHeader{{Name: "X-Probe", Value: "yes"}}}}}
	}
	tcp := func(port intstr.IntOrString) *corev1.Probe {
		return &corev1.Probe{ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: port}}}
	}
	for _, tc := range []struct {
		name   string
		probe  *corev1.Probe
		status int32
		good   bool
	}{
		{"200", get(intstr.FromString("web"), ""), 200, true},
		{"by number", get(intstr.FromInt32(port(plain)), corev1.URISchemeHTTP), 204, true},
		{"a redirect", get(intstr.FromString("web"), ""), 304, true},
		{"HTTPS", get(intstr.FromString("tls"), corev1.URISchemeHTTPS), 200, true},
		{"HTTP at an HTTPS port", get(intstr.FromString("tls"), ""), 200, false},
		{"500", get(intstr.FromString("web"), ""), 500, false},
		{"404", get(intstr.FromString("web"), ""), 404, false},
		{"no such port", get(intstr.FromString("none"), ""), 200, false},
		{"TCP", tcp(intstr.FromString("web")), 0, true},
		{"TCP, nobody listens", tcp(intstr.FromInt32(1)), 0, false},
		{"no kind", &corev1.Probe{}, 0, false},
	} {
		status.Store(tc.status)
		if err := c.check(t.Context(), tc.probe); (err == nil) != tc.good {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
	exec := &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"serve"}}}}
	if err := c.check(t.Context(), exec); !errors.Is(err, sandbox.ErrEnded) {
		t.Errorf("a command in a container that does not run: %v", err)
	}
}

// Readiness follows the probe by its thresholds: often until it is ready, by its period
// from then on.
func TestReadiness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := probed(t)
		began := time.Now()
		var checks []time.Duration
		results := []bool{false, false, true, true, false, true, false, false, true}
		ctx, stop := context.WithCancel(t.Context())
		s := &corev1.Probe{PeriodSeconds: 5, SuccessThreshold: 1, FailureThreshold: 2}
		states := []bool{}
		c.readiness(ctx, s, func() error {
			checks = append(checks, time.Since(began))
			states = append(states, c.ready.Load()) // after the check before
			n := len(checks) - 1
			if n == len(results)-1 {
				stop()
			}
			if results[n] {
				return nil
			}
			return net.ErrClosed
		})
		want := []bool{false, false, false, true, true, true, true, true, false}
		for i := range want {
			if states[i] != want[i] {
				t.Fatalf("ready before each check: %v, want %v", states, want)
			}
		}
		if d := checks[2]; d != 2*eager {
			t.Errorf("ready after %v, not asked often", d)
		}
		if d := checks[4] - checks[3]; d != 5*time.Second {
			t.Errorf("asked every %v when ready", d)
		}
	})
}
