package e2e

import (
	"strings"
	"testing"

	"waypoint.dev/waypoint/telemetry"
)

func ownPolicy(kind, name, spec string) string {
	group := `""`
	if kind != "Service" {
		group = "gateway.networking.k8s.io"
	}
	return `---
apiVersion: waypoint.dev/v1alpha1
kind: WaypointPolicy
metadata: {name: p-` + strings.ToLower(kind) + `, namespace: shop}
spec: {targetRefs: [{group: ` + group + `, kind: ` + kind + `, name: ` + name + `}], ` + spec + `}
`
}

// The circuit breaker as a user writes it: it opens at its share of errors, and refuses
// at once, for this service alone.
func TestCircuitBreaker(t *testing.T) {
	m := startMesh(t, nil)
	m.serve(frame + pod(podV1) + service(1, "cart", "http", 8080, podV1) + service(2, "other", "http", 8080, podV1) +
		ownPolicy("Service", "cart", "circuitBreaker: {minRequests: 4, errorPercent: 50, openFor: 1h}"))
	for i, path := range []string{"/?status=500", "/", "/", "/?status=500"} {
		if a := m.ask("clients", 1, "GET", path); a.rec.Details != "via_upstream" {
			t.Errorf("request %d: %d %s", i, a.StatusCode, a.rec.Details)
		}
	}
	out := make(chan response, 1)
	m.begin("refused", "/", out)
	r, rec := <-out, m.record("refused")
	if r.code != 503 || !r.overloaded || rec.Flags != telemetry.FlagUO || rec.Details != "circuit_open" || len(m.v1.Find("refused")) != 0 {
		t.Errorf("%+v, logged %v %s", r, rec.Flags, rec.Details)
	}
	if rec.UpstreamCluster != cluster("cart.shop.svc.cluster.local|80") || rec.Service.Name != "cart" || rec.Attempts != 0 {
		t.Errorf("logged of %s, cluster %s after %d attempts", rec.Service.Name, rec.UpstreamCluster, rec.Attempts)
	}
	if a := m.ask("clients", 2, "GET", "/"); a.StatusCode != 200 {
		t.Errorf("another service: %d", a.StatusCode)
	}
}

// The other settings of a WaypointPolicy at a service: what it says for rules that say
// nothing, and what those say for themselves.
func TestOwnRetryAndTimeouts(t *testing.T) {
	m := startMesh(t, nil)
	m.serve(frame + pod(podV1) + service(1, "cart", "http", 8080, podV1) + `apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: cart, namespace: shop}
spec:
  parentRefs: [{group: "", kind: Service, name: cart, port: 80}]
  rules:
  - {matches: [{path: {value: /own}}], timeouts: {request: 2s}, retry: {attempts: 2, codes: [503], backoff: 1ms}, backendRefs: [{name: cart, port: 80}]}
  - {matches: [{path: {value: /none}}], timeouts: {request: 0s}, retry: {attempts: 0}, backendRefs: [{name: cart, port: 80}]}
  - {backendRefs: [{name: cart, port: 80}]}
` + ownPolicy("Service", "cart", "retry: {attempts: 1, retryOn: '503', backoff: 1ms}, timeouts: {request: 200ms}"))
	for _, tt := range []struct {
		path     string
		status   int
		attempts int
	}{
		{"/?status=503", 503, 2},
		{"/?status=502", 502, 1},
		{"/own?status=503", 503, 3},
		{"/none?status=503", 503, 1},
		{"/?delay=5s", 504, 1},
		{"/own?delay=400ms", 200, 1},
		{"/none?delay=400ms", 200, 1},
	} {
		if a := m.ask("clients", 1, "GET", tt.path); a.StatusCode != tt.status || a.rec.Attempts != tt.attempts {
			t.Errorf("%s: %d after %d attempts, want %d after %d", tt.path, a.StatusCode, a.rec.Attempts, tt.status, tt.attempts)
		}
	}
}

// One endpoint of two is ejected where the policy says so, and none where it does not:
// 10 % of two is less than one.
func TestAlwaysEjectOneHost(t *testing.T) {
	m := startMesh(t, nil)
	for _, always := range []bool{false, true} {
		name := map[bool]string{false: "never", true: "once"}[always]
		yaml := frame + pod(podV1) + pod(podV2) + service(1, name, "http", 8080, podV1, podV2) + `apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: cart, namespace: shop}
spec: {host: ` + name + `, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}, outlierDetection: {consecutive5xxErrors: 1, baseEjectionTime: 1h}}}
`
		if always {
			yaml += ownPolicy("Gateway", "waypoint", "outlierDetection: {alwaysEjectOneHost: true}")
		}
		m.serve(yaml)
		apps := map[string]int{}
		for range 2 {
			m.ask("clients", 1, "GET", "/?status=500")
		}
		for range 10 {
			a := m.ask("clients", 1, "GET", "/")
			if a.StatusCode != 200 {
				t.Errorf("always %v: %d", always, a.StatusCode)
			}
			apps[a.Header.Get("X-App")]++
		}
		if want := map[bool]int{false: 2, true: 1}[always]; len(apps) != want {
			t.Errorf("always %v: answered by %v", always, apps)
		}
	}
}
