package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"waypoint.dev/waypoint/conformance/measure"
	"waypoint.dev/waypoint/identity"
)

const (
	trustDomain = "cluster.local"
	vip         = "10.96.4.1:80"
	ttl         = 24 * time.Hour
)

// podIP is a loopback address of this run's own, so that runs do not meet.
var podIP = fmt.Sprintf("127.4.%d.%d", os.Getpid()>>8&0xff, os.Getpid()&0xff)

// manifests are one service with a route and a policy: what a user has at least.
var manifests = `
apiVersion: v1
kind: Namespace
metadata: {name: bench, labels: {istio.io/dataplane-mode: ambient, istio.io/use-waypoint: waypoint}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: waypoint, namespace: bench, labels: {istio.io/waypoint-for: service}}
spec: {gatewayClassName: istio-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}
---
apiVersion: v1
kind: Pod
metadata: {name: echo-1, namespace: bench, labels: {app: echo}}
spec: {serviceAccountName: echo, containers: [{name: app, image: echo}]}
status: {phase: Running, podIP: ` + podIP + `, podIPs: [{ip: ` + podIP + `}], conditions: [{type: Ready, status: "True"}]}
---
apiVersion: v1
kind: Service
metadata: {name: echo, namespace: bench}
spec: {clusterIP: 10.96.4.1, clusterIPs: [10.96.4.1], selector: {app: echo}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: echo-1, namespace: bench, labels: {kubernetes.io/service-name: echo}}
addressType: IPv4
ports: [{name: http, port: 8080, protocol: TCP}]
endpoints: [{addresses: [` + podIP + `], conditions: {ready: true}, targetRef: {kind: Pod, name: echo-1, namespace: bench}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: echo, namespace: bench}
spec:
  parentRefs: [{group: "", kind: Service, name: echo, port: 80}]
  rules:
  - matches: [{path: {type: PathPrefix, value: /admin}}]
    backendRefs: [{name: echo, port: 80}]
  - backendRefs: [{name: echo, port: 80}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: clients, namespace: bench}
spec:
  targetRefs: [{group: "", kind: Service, name: echo}]
  action: ALLOW
  rules: [{from: [{source: {principals: [` + trustDomain + `/ns/bench/sa/client]}}]}]
`

type lab struct {
	dir      string
	client   identity.Source
	backend  *measure.Backend
	waypoint *measure.Waypoint
}

// start brings up the backend and the waypoint as processes, the latter with
// further flags.
func start(ctx context.Context, waypoint string, flags ...string) (l *lab, err error) {
	dir, err := os.MkdirTemp("", "waypoint-bench-")
	if err != nil {
		return nil, err
	}
	l = &lab{dir: dir}
	defer func(made *lab) {
		if err != nil {
			made.close()
		}
	}(l)
	ca, err := identity.NewCA(trustDomain)
	if err != nil {
		return nil, err
	}
	l.client = ca.Source("bench", "client", ttl)
	for _, sa := range []string{"echo", "waypoint"} {
		if err := ca.WriteFiles(filepath.Join(dir, sa), "bench", sa, ttl); err != nil {
			return nil, err
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, "config"), 0o755); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "config", "bench.yaml"), []byte(manifests), 0o644); err != nil {
		return nil, err
	}
	if l.backend, err = measure.StartBackend("-backend", filepath.Join(dir, "echo"), "-pod", podIP); err != nil {
		return nil, err
	}
	l.waypoint, err = l.another(waypoint, flags...)
	return l, err
}

// another starts a waypoint before the backend; whoever asks for a second one ends it.
func (l *lab) another(waypoint string, flags ...string) (*measure.Waypoint, error) {
	return measure.StartWaypoint(waypoint, filepath.Join(l.dir, "config"), filepath.Join(l.dir, "waypoint"), nil, flags...)
}

func (l *lab) close() {
	if l.waypoint != nil {
		l.waypoint.End()
	}
	if l.backend != nil {
		l.backend.End()
	}
	if l.client != nil {
		l.client.Close()
	}
	os.RemoveAll(l.dir)
}
