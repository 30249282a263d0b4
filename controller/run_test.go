package controller

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/controller/apitest"
	"waypoint.dev/waypoint/controller/provision"
	"waypoint.dev/waypoint/xds/objects"
)

const world = apitest.Shop + `---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r, namespace: shop}
spec: {parentRefs: [{group: "", kind: Service, name: web}], rules: [{backendRefs: [{group: "", kind: Service, name: web, port: 80, weight: 1}]}]}
`

// replica is one running controller.
type replica struct {
	feed, metrics string
	stop          context.CancelFunc
	done          chan error
}

func run(t *testing.T, s *apitest.Server, name string, change ...func(*Options)) *replica {
	t.Helper()
	core, dyn := s.Clients()
	r := &replica{done: make(chan error, 1)}
	up := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	r.stop = cancel
	o := Options{
		Core: core, Dynamic: dyn, Namespace: "sys", Identity: name, FeedAddr: "127.0.0.1:0", MetricsAddr: "127.0.0.1:0", DebugAddr: "127.0.0.1:0",
		Provision: provision.Settings{Image: "image", Replicas: 1, Controller: "c.sys.svc:15012",
			Identity: provision.Identity{Mode: provision.IdentityIstiod, CAAddress: "ca:1"}},
		LeaseDuration: 3 * time.Second, RenewDeadline: 2 * time.Second, RetryPeriod: 100 * time.Millisecond,
		listening: func(feed, metrics net.Addr) { r.feed, r.metrics = feed.String(), metrics.String(); close(up) },
	}
	for _, c := range change {
		c(&o)
	}
	go func() { r.done <- Run(ctx, o) }()
	select {
	case <-up:
	case err := <-r.done:
		t.Fatal(err)
	}
	return r
}

func (r *replica) end(t *testing.T) {
	t.Helper()
	r.stop()
	if err := <-r.done; err != nil {
		t.Error(err)
	}
}

// get asks the monitoring port.
func (r *replica) get(path string) (int, string) {
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := c.Get("http://" + r.metrics + path)
	if err != nil {
		return 0, err.Error()
	}
	defer res.Body.Close()
	b, _ := io.ReadAll(res.Body)
	return res.StatusCode, string(b)
}

// eventually asks until the answer is yes: what is asked has no event to wait for.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
		wait(t.Context(), 10*time.Millisecond)
	}
}

func (r *replica) leads() bool {
	_, m := r.get("/metrics")
	return strings.Contains(m, "\nwaypoint_controller_leader 1\n")
}

func server(t *testing.T) *apitest.Server {
	s := apitest.New()
	t.Cleanup(s.Close)
	s.Define()
	s.Load(world)
	s.Review(func(token string) string {
		if token == "good" {
			return "system:serviceaccount:shop:waypoint"
		}
		return ""
	})
	return s
}

// TestOneReplicaWrites runs two replicas, and takes the one away that writes.
func TestOneReplicaWrites(t *testing.T) {
	s := server(t)
	a, b := run(t, s, "a"), run(t, s, "b")
	eventually(t, "ready", func() bool {
		x, _ := a.get("/readyz")
		y, _ := b.get("/readyz")
		return x == 200 && y == 200
	})
	eventually(t, "one leads", func() bool { return a.leads() != b.leads() })
	routed := func() string {
		return fmt.Sprint(s.Get("gateway.networking.k8s.io", "httproutes", "shop", "r")["status"])
	}
	eventually(t, "the route's status", func() bool { return strings.Contains(routed(), "ResolvedRefs") })
	eventually(t, "the waypoint", func() bool { return s.Get("apps", "deployments", "shop", "waypoint") != nil })
	eventually(t, "attached", func() bool {
		return strings.Contains(fmt.Sprint(s.Get("gateway.networking.k8s.io", "gateways", "shop", "waypoint")["status"]), "attachedRoutes:1")
	})
	first, second := a, b
	if b.leads() {
		first, second = b, a
	}
	first.end(t)
	eventually(t, "the other leads", second.leads)
	o := s.Get("gateway.networking.k8s.io", "httproutes", "shop", "r")
	o["spec"].(map[string]any)["parentRefs"] = []any{}
	s.Put("httproutes", o)
	eventually(t, "it writes", func() bool { return !strings.Contains(routed(), "ResolvedRefs") })
	second.end(t)
}

// TestServerAway takes the API server away for longer than a Lease lasts.
func TestServerAway(t *testing.T) {
	s := server(t)
	a := run(t, s, "a")
	eventually(t, "leads", a.leads)
	s.SetDown(true)
	eventually(t, "leads no longer", func() bool { return !a.leads() })
	if c, _ := a.get("/readyz"); c != 200 {
		t.Error("a controller whose API server is away is not ready: its waypoints would lose it")
	}
	s.SetDown(false)
	eventually(t, "leads again", a.leads)
	o := s.Get("gateway.networking.k8s.io", "httproutes", "shop", "r")
	o["spec"].(map[string]any)["rules"].([]any)[0].(map[string]any)["backendRefs"].([]any)[0].(map[string]any)["name"] = "gone"
	s.Put("httproutes", o)
	eventually(t, "writes again", func() bool {
		return strings.Contains(fmt.Sprint(s.Get("gateway.networking.k8s.io", "httproutes", "shop", "r")["status"]), "BackendNotFound")
	})
	a.end(t)
}

// asker returns how to call a replica's feed as a waypoint does, by the roots given.
func (r *replica) asker(t *testing.T, roots []byte) func(token string, gw config.Owner) (*discovery.DeltaDiscoveryResponse, error) {
	t.Helper()
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(roots) {
		t.Fatalf("no roots: %s", roots)
	}
	conn, err := grpc.NewClient(r.feed, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: pool, ServerName: "waypoint-controller.sys.svc", NextProtos: []string{"h2"}})))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return func(token string, gw config.Owner) (*discovery.DeltaDiscoveryResponse, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		stream, err := discovery.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token))
		if err != nil {
			return nil, err
		}
		node, err := objects.NewNode(gw, "pod")
		if err != nil {
			return nil, err
		}
		// A refused stream may be over before it is written to; io.EOF says to read why.
		if err := stream.Send(&discovery.DeltaDiscoveryRequest{Node: node, TypeUrl: objects.TypeURL}); err != nil && err != io.EOF {
			return nil, err
		}
		return stream.Recv()
	}
}

// trusted waits for the roots that the waypoint's ConfigMap holds.
func trusted(t *testing.T, s *apitest.Server) []byte {
	t.Helper()
	eventually(t, "roots", func() bool { return s.Get("", "configmaps", "shop", "waypoint-waypoint-controller-ca") != nil })
	return []byte(s.Get("", "configmaps", "shop", "waypoint-waypoint-controller-ca")["data"].(map[string]any)["ca.crt"].(string))
}

// TestFeedNeedsAToken calls the feed as a waypoint does.
func TestFeedNeedsAToken(t *testing.T) {
	s := server(t)
	a := run(t, s, "a")
	defer a.end(t)
	ask := a.asker(t, trusted(t, s))
	mine := config.Owner{Namespace: "shop", Name: "waypoint"}
	if _, err := ask("bad", mine); status.Code(err) != codes.Unauthenticated {
		t.Errorf("a bad token: %v", err)
	}
	if _, err := ask("good", config.Owner{Namespace: "shop", Name: "other"}); status.Code(err) != codes.PermissionDenied {
		t.Errorf("another's Gateway: %v", err)
	}
	res, err := ask("good", mine)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, r := range res.GetResources() {
		names[r.GetName()] = true
	}
	if !names["HTTPRoute/shop/r"] || !names["Service/shop/web"] {
		t.Errorf("fed: %v", names)
	}
}

func TestOptions(t *testing.T) {
	s := server(t)
	core, dyn := s.Clients()
	base := Options{Core: core, Dynamic: dyn, Namespace: "sys", Identity: "a"}
	for name, change := range map[string]func(*Options){
		"no namespace":         func(o *Options) { o.Namespace = "" },
		"profiles for all":     func(o *Options) { o.DebugAddr = ":6060" },
		"profiles on the net":  func(o *Options) { o.DebugAddr = "10.0.0.1:6060" },
		"a key alone":          func(o *Options) { o.Key = "k" },
		"an image without how": func(o *Options) { o.Provision.Image = "i" },
	} {
		o := base
		change(&o)
		if err := o.fill(); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if err := base.fill(); err != nil {
		t.Error(err)
	}
}
