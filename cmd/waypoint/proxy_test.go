package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"waypoint.dev/waypoint/agent"
	"waypoint.dev/waypoint/config/istiod"
)

const cartCluster = "inbound-vip|80|http|cart.shop.svc.cluster.local"

// TestProxyStarts goes from nothing to traffic, and looks at what istiod and
// istioctl see.
func TestProxyStarts(t *testing.T) {
	r := newMeshRig(t, "01-basic", time.Hour)
	for range 10 {
		if code, body, _ := r.get("/items"); code != 200 {
			t.Fatalf("%d %s", code, body)
		}
	}
	if code, _, _ := r.fetch(r.ready + "/healthz/ready"); code != 200 {
		t.Errorf("ready: %d", code)
	}
	if n := strings.Count(r.said(), "flags that mean nothing here"); n != 1 || !strings.Contains(r.said(), "--outlierLogPath") {
		t.Errorf("unknown flags were warned of %d times", n)
	}
	for _, typ := range []string{istiod.ClusterType, istiod.EndpointsType, istiod.ListenerType, istiod.WorkloadType} {
		r.eventually("acknowledged: "+typ, func() bool { return r.istiod.Acks(typ) > 0 })
	}
	if rs := r.istiod.Refusals(); len(rs) > 0 {
		t.Errorf("refused: %v", rs)
	}
	n := r.istiod.Nodes()[0]
	if n.Id != "waypoint~127.0.0.1~waypoint-6c5d8-abcde.shop~shop.svc.cluster.local" || n.Cluster != "waypoint.shop" ||
		n.Metadata.Fields["ISTIO_VERSION"].GetStringValue() != agent.IstioVersion || n.Metadata.Fields["LABELS"].GetStructValue().Fields["gateway.networking.k8s.io/gateway-name"].GetStringValue() != "waypoint" {
		t.Errorf("node %v", n)
	}

	_, body, _ := r.fetch(r.admin + "/config_dump?include_eds=true")
	var d struct{ Configs []map[string]any }
	if err := json.Unmarshal([]byte(body), &d); err != nil {
		t.Fatal(err)
	}
	var types []string
	for _, c := range d.Configs {
		typ, _ := c["@type"].(string)
		types = append(types, typ[strings.LastIndexByte(typ, '.')+1:])
	}
	for _, want := range []string{"BootstrapConfigDump", "ClustersConfigDump", "ListenersConfigDump", "RoutesConfigDump", "SecretsConfigDump", "EcdsConfigDump", "EndpointsConfigDump"} {
		if !slices.Contains(types, want) {
			t.Errorf("config_dump has no %s: %v", want, types)
		}
	}
	for _, want := range []string{cartCluster, "main_internal", "127.0.7.31:8080"} {
		if !strings.Contains(body, want) {
			t.Errorf("config_dump does not show %s", want)
		}
	}
	if strings.Contains(body, "PRIVATE KEY") || strings.Contains(body, "type is not known") {
		t.Error("config_dump shows a key, or not all types")
	}
	if _, body, _ := r.fetch(r.admin + "/clusters?format=json"); !strings.Contains(body, `"cluster_statuses"`) || !strings.Contains(body, "127.0.7.31:8080") {
		t.Errorf("clusters: %.300s", body)
	}
}

// edit changes one resource in place and pushes it.
func edit[M proto.Message](r *meshRig, url, name string, m M, change func(M)) {
	r.t.Helper()
	if err := r.istiod.Resource(url, name).UnmarshalTo(m); err != nil {
		r.t.Fatal(err)
	}
	change(m)
	a, err := anypb.New(m)
	if err != nil {
		r.t.Fatal(err)
	}
	r.istiod.Push(url, map[string]*anypb.Any{name: a})
}

func TestProxyFollowsPushes(t *testing.T) {
	r := newMeshRig(t, "01-basic", time.Hour)
	asking := r.ask(r.front.Addr(), 1, "GET", "POST")
	// An endpoint goes: the other one gets everything, and no request is lost.
	edit(r, istiod.EndpointsType, cartCluster, &endpointv3.ClusterLoadAssignment{}, func(a *endpointv3.ClusterLoadAssignment) {
		for _, l := range a.Endpoints {
			l.LbEndpoints = slices.DeleteFunc(l.LbEndpoints, func(e *endpointv3.LbEndpoint) bool {
				return e.GetEndpoint().GetAddress().GetEnvoyInternalAddress().GetEndpointId() == "127.0.7.31:8080"
			})
		}
	})
	r.eventually("only the second pod is called", func() bool {
		before, other := r.pod.Count(), r.app.Count()
		r.eventually("requests go on", func() bool { return r.app.Count() > other+20 })
		return r.pod.Count() == before
	})

	// What cannot be decoded is refused with its name; the last good version stays.
	acks := r.istiod.Acks(istiod.ClusterType)
	good := r.istiod.Resource(istiod.ClusterType, cartCluster)
	r.istiod.Push(istiod.ClusterType, map[string]*anypb.Any{cartCluster: {TypeUrl: istiod.ClusterType, Value: []byte{0x0a, 0xff}}})
	r.eventually("the refusal", func() bool { return len(r.istiod.Refusals()) > 0 })
	if f := r.istiod.Refusals()[0]; f.Type != istiod.ClusterType || !strings.Contains(f.Reason, cartCluster) {
		t.Errorf("refused with %+v", f)
	}
	if r.istiod.Acks(istiod.ClusterType) != acks {
		t.Error("it was acknowledged too")
	}
	if code, body, _ := r.get("/after"); code != 200 {
		t.Errorf("after the refusal: %d %s", code, body)
	}
	if _, body, _ := r.fetch(r.admin + "/config_dump"); !strings.Contains(body, "error_state") {
		t.Error("config_dump does not show the refusal")
	}
	r.istiod.Push(istiod.ClusterType, map[string]*anypb.Any{cartCluster: good})
	r.eventually("the good version is taken", func() bool { return r.istiod.Acks(istiod.ClusterType) > acks })

	// The stream breaks, by itself and as istiod does it; what was received serves.
	for _, sever := range []func(){r.istiod.Disconnect, func() {
		if err := r.istiod.GoAway(); err != nil {
			t.Error(err)
		}
	}} {
		before := len(r.istiod.Nodes())
		sever()
		r.eventually("a new stream", func() bool { return len(r.istiod.Nodes()) > before && r.istiod.Streams() == 1 })
	}
	asking.end()
}

// TestProxyOutlivesIstiod takes the control plane away, and a listener's chain and
// a cluster with it: gone is what the new stream does not name.
func TestProxyOutlivesIstiod(t *testing.T) {
	r := newMeshRig(t, "01-basic", time.Hour)
	r.istiod.Stop()
	r.eventually("the loss is noticed", func() bool {
		_, body, _ := r.fetch(r.admin + "/stats?filter=xds_connected")
		return strings.Contains(body, ": 0")
	})
	for range 20 {
		if code, _, _ := r.get("/alone"); code != 200 {
			t.Fatalf("without a control plane: %d", code)
		}
	}
	edit(r, istiod.ListenerType, "main_internal", &listenerv3.Listener{}, func(l *listenerv3.Listener) {
		for _, fc := range l.FilterChains {
			if fc.Name == cartCluster {
				fc.Filters = nil
			}
		}
	})
	r.istiod.Push(istiod.ClusterType, nil, cartCluster)
	r.istiod.SetVersion("1.99.0")
	if err := r.istiod.Start(); err != nil {
		t.Fatal(err)
	}
	r.eventually("the chain without filters is refused service", func() bool {
		res, err := r.http.Get("http://" + r.front.Addr().String() + "/")
		if err != nil {
			return true
		}
		res.Body.Close()
		return res.StatusCode >= 500
	})
	r.eventually("an untested istiod is warned of", func() bool {
		return strings.Contains(r.said(), "1.99.0") && strings.Contains(r.said(), "outside the range")
	})
	r.eventually("the endpoints of the removed cluster are given up", func() bool {
		return !slices.Contains(r.istiod.Subscribed(istiod.EndpointsType), cartCluster)
	})
}

func TestProxyRotatesCertificates(t *testing.T) {
	r := newMeshRig(t, "01-basic", 6*time.Second)
	asking := r.ask(r.front.Addr(), 1, "GET", "POST")
	before := r.istiod.Issued()
	r.eventually("two renewals", func() bool { return r.istiod.Issued() >= before+2 })
	// As a CA changes its root: all learn it before one is signed by it. The waypoint
	// does with its next certificate.
	if err := r.ca.AnnounceRoot(); err != nil {
		t.Fatal(err)
	}
	before = r.istiod.Issued()
	r.eventually("the new root is known", func() bool { return r.istiod.Issued() >= before+2 })
	if err := r.ca.RotateRoot(); err != nil {
		t.Fatal(err)
	}
	before = r.istiod.Issued()
	r.eventually("a certificate of the new root", func() bool { return r.istiod.Issued() > before })
	asking.flow(t)
	asking.end()
}

func TestProxyDrains(t *testing.T) {
	r := newMeshRig(t, "01-basic", time.Hour)
	slow := make(chan int, 1)
	go func() {
		res, err := r.http.Get("http://" + r.front.Addr().String() + "/slow?delay=1s")
		if err != nil {
			slow <- 0
			return
		}
		res.Body.Close()
		slow <- res.StatusCode
	}()
	r.eventually("the slow request is at an app", func() bool { return r.requests() > 0 })
	r.cmd.Process.Signal(syscall.SIGTERM)
	if code := <-slow; code != 200 {
		t.Errorf("the request that was under way ended with %d", code)
	}
	if err := r.wait(10 * time.Second); err != nil {
		t.Errorf("exit: %v", err)
	}
}

func TestProxyRefusesToStart(t *testing.T) {
	r := prepareMesh(t, "01-basic", time.Hour)
	for _, tt := range []struct{ env, says string }{
		{"COMPLIANCE_POLICY=fips-140-2", "FIPS"},
		{"COMPLIANCE_POLICY=gost", "none that Istio defines"},
		{"INSTANCE_IP=x", "INSTANCE_IP"},
		{"PROXY_CONFIG={", "PROXY_CONFIG"},
		{"POD_NAME=", "POD_NAME"},
	} {
		out, err := r.command(tt.env).CombinedOutput()
		if err == nil || !strings.Contains(string(out), tt.says) {
			t.Errorf("%s: %v, %q is not in:\n%s", tt.env, err, tt.says, out)
		}
	}
	if out, err := exec.Command(binary, "proxy", "sidecar").CombinedOutput(); err == nil || !strings.Contains(string(out), "waypoint") {
		t.Errorf("another role: %v %s", err, out)
	}
	os.Remove(filepath.Join(r.root, "var/run/secrets/istio/root-cert.pem"))
	if out, err := r.command().CombinedOutput(); err == nil || !strings.Contains(string(out), "root") {
		t.Errorf("without a root to verify istiod by: %v %s", err, out)
	}
}

// TestProxyUsesMountedFiles proves its identity with files, and refuses a peer
// that the mounted list revokes; the CA is never asked.
func TestProxyUsesMountedFiles(t *testing.T) {
	r := prepareMesh(t, "01-basic", time.Hour)
	svid, err := r.ca.Issue("shop", "waypoint", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	chain, key, err := svid.PEM()
	if err != nil {
		t.Fatal(err)
	}
	const dir = "var/run/secrets/workload-spiffe-credentials/"
	r.mount(dir+"cert-chain.pem", string(chain))
	r.mount(dir+"key.pem", string(key))
	r.mount(dir+"root-cert.pem", string(r.ca.Bundle().PEM))
	r.startProxy()
	if code, body, _ := r.get("/"); code != 200 {
		t.Errorf("%d %s", code, body)
	}
	// The list comes later, as an optional mount may, while a connection is open.
	r.mount("var/run/secrets/istio/crl/ca-crl.pem", r.revoke(r.client.Source.SVID()))
	r.eventually("the revoked client is cut off", func() bool {
		res, err := r.http.Get("http://" + r.front.Addr().String() + "/")
		if err == nil {
			res.Body.Close()
		}
		return err != nil
	})
	if !strings.Contains(r.said(), "its peer was revoked") {
		t.Error("its open connection was not closed for that")
	}
	if n := r.istiod.Issued(); n != 0 {
		t.Errorf("the CA signed %d certificates", n)
	}
}

// TestProxyPostQuantum serves mesh peers with the hybrid key exchange only.
func TestProxyPostQuantum(t *testing.T) {
	r := newMeshRig(t, "01-basic", time.Hour, "COMPLIANCE_POLICY=pqc")
	if code, body, _ := r.get("/"); code != 200 {
		t.Errorf("%d %s", code, body)
	}
}

// TestProxyTakesEveryScenario loads all that an istiod was seen to send: none of
// it is refused.
func TestProxyTakesEveryScenario(t *testing.T) {
	dirs, err := filepath.Glob(scenarios + "*/listeners.json")
	if err != nil || len(dirs) < 10 {
		t.Fatalf("%d scenarios, want 10: %v", len(dirs), err)
	}
	for _, d := range dirs {
		name := filepath.Base(filepath.Dir(d))
		t.Run(name, func(t *testing.T) {
			r := newMeshRig(t, name, time.Hour)
			r.eventually("listeners are taken", func() bool { return r.istiod.Acks(istiod.ListenerType)+len(r.istiod.Refusals()) > 0 })
			if rs := r.istiod.Refusals(); len(rs) > 0 {
				t.Errorf("refused: %v", rs)
			}
		})
	}
}
