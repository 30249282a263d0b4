package kube

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/resilience"
	"waypoint.dev/waypoint/resilience/balance"
)

const trafficFrame = `apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio.io/dataplane-mode: ambient, istio.io/use-waypoint: waypoint}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: waypoint, namespace: shop}
spec: {gatewayClassName: istio-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}
---
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec: {clusterIP: 10.96.0.1, ports: [{name: http, port: 80}, {name: http-b, port: 81}, {name: tcp, port: 82}, {name: x, port: 83}]}
`

// built returns the model of trafficFrame with more objects.
func built(t *testing.T, more string) *config.Model {
	t.Helper()
	return NewBuilder(Options{Mesh: config.Mesh{Waypoint: config.Owner{Namespace: "shop", Name: "waypoint"}}}).Build(store(t, trafficFrame+"---\n"+more))
}

func destinationRule(ns, name, created, spec string) string {
	return fmt.Sprintf("apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: %s, namespace: %s, creationTimestamp: '2026-01-%sT00:00:00Z'}\nspec: %s\n---\n", name, ns, created, spec)
}

// Every field of connectionPool, outlierDetection and retryBudget, as it comes to
// ports that carry HTTP, bytes, or what comes.
func TestTrafficPolicy(t *testing.T) {
	m := built(t, destinationRule("shop", "cart", "01", `
  host: cart
  trafficPolicy:
    connectionPool:
      tcp: {maxConnections: 1, connectTimeout: 30s, idleTimeout: 3s, maxConnectionDuration: 4s, tcpKeepalive: {time: 60s}}
      http: {http1MaxPendingRequests: 5, http2MaxRequests: 6, maxRequestsPerConnection: 7, maxRetries: 8, idleTimeout: 9s, maxConcurrentStreams: 10}
    outlierDetection: {consecutive5xxErrors: 11, consecutiveGatewayErrors: 12, interval: 13s, baseEjectionTime: 14s, maxEjectionPercent: 15, minHealthPercent: 16, splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 17}
    retryBudget: {percent: 18.5, minRetryConcurrency: 19}
    portLevelSettings: [{port: {number: 81}, connectionPool: {http: {maxRetries: 1}}}]
  subsets:
  - {name: v1, labels: {version: v1}, trafficPolicy: {outlierDetection: {consecutive5xxErrors: 0}}}`)+`
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: cart, namespace: shop}
spec:
  parentRefs: [{group: "", kind: Service, name: cart}]
  rules: [{backendRefs: [{name: cart, port: 80}]}]
`)
	http := resilience.Settings{
		MaxConnections: 1, MaxPending: 5, MaxRequests: 6, MaxRetries: 8, MaxRequestsPerConn: 7, MaxConcurrentStreams: 10,
		ConnectTimeout: 30 * time.Second, IdleTimeout: 9 * time.Second, TCPIdleTimeout: 3 * time.Second, MaxConnectionDuration: 4 * time.Second,
		RetryBudget: &resilience.RetryBudget{Percent: 18.5, MinConcurrent: 19},
		Outlier: &resilience.Outlier{Consecutive5xx: 11, ConsecutiveGateway: 12, Interval: 13 * time.Second, BaseEjection: 14 * time.Second,
			MaxEjection: 300 * time.Second, MaxEjectionPercent: 15, MinHealthPercent: 16, SplitLocal: true, ConsecutiveLocal: 17},
	}
	tcp := http
	tcp.IdleTimeout = 3 * time.Second
	port := resilience.Settings{MaxRetries: 1, RetryBudget: http.RetryBudget}
	for key, want := range map[string]resilience.Settings{"80": http, "81": port, "82": tcp, "83": http} {
		b := m.Backends["cart.shop.svc.cluster.local|"+key]
		if b == nil {
			t.Fatalf("no backend of port %s", key)
		}
		if !reflect.DeepEqual(b.Settings, want) {
			t.Errorf("port %s:\n%+v, want\n%+v", key, b.Settings, want)
		}
	}
	if p := m.Backends["cart.shop.svc.cluster.local|80"].Balance.PanicThreshold; p != 16 {
		t.Errorf("panic threshold %d", p)
	}
}

// Which of several DestinationRules counts, told by its maxRetries.
func TestWhichDestinationRule(t *testing.T) {
	retries := func(host string, n int, more string) string {
		return fmt.Sprintf("{host: %q, trafficPolicy: {connectionPool: {http: {maxRetries: %d}}}%s}", host, n, more)
	}
	const full = "cart.shop.svc.cluster.local"
	for _, tt := range []struct {
		name  string
		rules string
		want  uint32
	}{
		{"none", "", 0},
		{"short name", destinationRule("shop", "a", "01", retries("cart", 1, "")), 1},
		{"full name, in capitals", destinationRule("shop", "a", "01", retries("Cart.shop.svc.cluster.local", 1, "")), 1},
		{"short name of another namespace", destinationRule("other", "a", "01", retries("cart", 1, "")), 0},
		{"exact before wildcard", destinationRule("shop", "a", "01", retries("*.shop.svc.cluster.local", 1, "")) + destinationRule("shop", "b", "02", retries("cart", 2, "")), 2},
		{"the longer wildcard", destinationRule("shop", "a", "01", retries("*.svc.cluster.local", 1, "")) + destinationRule("shop", "b", "02", retries("*.shop.svc.cluster.local", 2, "")), 2},
		{"everything", destinationRule("shop", "a", "01", retries("*", 1, "")), 1},
		{"another wildcard", destinationRule("shop", "a", "01", retries("*.other.svc.cluster.local", 1, "")), 0},
		{"the oldest of two", destinationRule("shop", "b", "01", retries("cart", 1, "")) + destinationRule("shop", "a", "02", retries(full, 2, "")), 1},
		{"by name at the same time", destinationRule("shop", "b", "01", retries("cart", 1, "")) + destinationRule("shop", "a", "01", retries(full, 2, "")), 2},
		{"the younger's where the oldest has none", destinationRule("shop", "a", "01", "{host: cart, subsets: [{name: v1}]}") + destinationRule("shop", "b", "02", retries("cart", 2, "")), 2},
		{"the namespace's wildcard before the root's exact", destinationRule("istio-system", "a", "01", retries(full, 1, "")) + destinationRule("shop", "b", "02", retries("*", 2, "")), 2},
		{"the root's", destinationRule("istio-system", "a", "01", retries(full, 1, "")), 1},
		{"the root's, kept to itself", destinationRule("istio-system", "a", "01", retries(full, 1, `, exportTo: ["."]`)), 0},
		{"the root's, for this namespace", destinationRule("istio-system", "a", "01", retries(full, 1, `, exportTo: [shop]`)), 1},
		{"the root's, for another", destinationRule("istio-system", "a", "01", retries(full, 1, `, exportTo: [other]`)), 0},
		{"a client's", destinationRule("clients", "a", "01", retries(full, 1, "")), 0},
		{"with a selector", destinationRule("shop", "a", "01", retries("cart", 1, ", workloadSelector: {matchLabels: {app: x}}")), 0},
	} {
		m := built(t, tt.rules)
		if got := m.Backends[full+"|80"].Settings.MaxRetries; got != tt.want {
			t.Errorf("%s: maxRetries %d, want %d", tt.name, got, tt.want)
		}
		merged := false
		for _, p := range m.Problems {
			merged = merged || p.Reason == "Merged"
		}
		if want := strings.Contains(tt.name, "oldest of two") || strings.Contains(tt.name, "same time"); merged != want {
			t.Errorf("%s: told of merging: %v", tt.name, merged)
		}
	}
}

// Kinds of balancing that a DestinationRule can ask for.
func TestLoadBalancer(t *testing.T) {
	for spec, want := range map[string]balance.Policy{
		"{simple: LEAST_REQUEST}":                                               {Kind: balance.LeastRequest},
		"{simple: UNSPECIFIED}":                                                 {Kind: balance.LeastRequest},
		"{simple: ROUND_ROBIN}":                                                 {Kind: balance.RoundRobin},
		"{simple: RANDOM}":                                                      {Kind: balance.Random},
		"{simple: PASSTHROUGH}":                                                 {Kind: balance.Passthrough},
		"{consistentHash: {httpHeaderName: X-User}}":                            {Kind: balance.RingHash, Hash: []balance.HashSource{{Header: "x-user"}}},
		"{consistentHash: {useSourceIp: true}}":                                 {Kind: balance.RingHash, Hash: []balance.HashSource{{SourceIP: true}}},
		"{consistentHash: {httpQueryParameterName: Q}}":                         {Kind: balance.RingHash, Hash: []balance.HashSource{{Query: "Q"}}},
		"{consistentHash: {httpHeaderName: a, ringHash: {minimumRingSize: 7}}}": {Kind: balance.RingHash, RingMin: 7, Hash: []balance.HashSource{{Header: "a"}}},
		"{consistentHash: {httpHeaderName: a, maglev: {tableSize: 1009}}}":      {Kind: balance.Maglev, TableSize: 1009, Hash: []balance.HashSource{{Header: "a"}}},
		"{simple: ROUND_ROBIN, warmup: {duration: 30s, minimumPercent: 20, aggression: 2}}": {Kind: balance.RoundRobin,
			Warmup: balance.Warmup{Duration: 30 * time.Second, MinPercent: 20, Aggression: 2}},
		"{simple: LEAST_REQUEST, warmupDurationSecs: 45s}": {Warmup: balance.Warmup{Duration: 45 * time.Second}},
	} {
		m := built(t, destinationRule("shop", "cart", "01", "{host: cart, trafficPolicy: {loadBalancer: "+spec+"}}"))
		got := m.Backends["cart.shop.svc.cluster.local|80"].Balance
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n%+v, want\n%+v", spec, got, want)
		}
	}
}
