package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"waypoint.dev/waypoint/identity"
	"waypoint.dev/waypoint/internal/testmesh"
)

// scenarios are what istiod sent for the objects beside them.
const scenarios = "../../config/istiod/testdata/"

// pods are the fixture's pods and where they live here.
var pods = map[string]string{"10.244.1.31": "127.0.7.31", "10.244.2.31": "127.0.7.32"}

// meshRig is a fake istiod, two pods, and the waypoint as a process with the
// command line, environment and mounts of Istio's template.
type meshRig struct {
	*rig
	istiod *testmesh.Istiod
	pod    *testmesh.App // cart-v1
	root   string        // of the pod's file system
}

func (r *meshRig) mount(name, content string) {
	r.t.Helper()
	name = filepath.Join(r.root, name)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		r.t.Fatal(err)
	}
	tmp := name + ".new"
	if err := os.WriteFile(tmp, []byte(content), 0o600); err != nil {
		r.t.Fatal(err)
	}
	if err := os.Rename(tmp, name); err != nil {
		r.t.Fatal(err)
	}
}

// newMeshRig starts everything with a scenario; env is added to the template's.
func newMeshRig(t *testing.T, scenario string, ttl time.Duration, env ...string) *meshRig {
	t.Helper()
	r := prepareMesh(t, scenario, ttl)
	r.startProxy(env...)
	return r
}

func prepareMesh(t *testing.T, scenario string, ttl time.Duration) *meshRig {
	t.Helper()
	r := &meshRig{rig: &rig{t: t}, root: t.TempDir()}
	var err error
	if r.ca, err = identity.NewCA("cluster.local"); err != nil {
		t.Fatal(err)
	}
	if r.istiod, err = testmesh.NewIstiod(r.ca, ttl); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.istiod.Close)
	if err := r.istiod.Load(scenarios+scenario, pods); err != nil {
		t.Fatal(err)
	}
	for i, ip := range []string{"127.0.7.31", "127.0.7.32"} {
		app, err := testmesh.NewApp(fmt.Sprintf("cart-v%d", i+1), ip+":8080")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { app.Close() })
		node, err := testmesh.NewNode(netip.MustParseAddr(ip), r.source("shop", "cart"), nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { node.Close() })
		if i == 0 {
			r.pod = app
		}
		r.app = app
	}
	r.mount("var/run/secrets/istio/root-cert.pem", string(r.istiod.RootPEM))
	r.mount("var/run/secrets/tokens/istio-token", r.istiod.Token(testmesh.Account{Namespace: "shop", Name: "waypoint"}))
	r.mount("etc/istio/pod/labels", "gateway.networking.k8s.io/gateway-name=\"waypoint\"\ngateway.networking.k8s.io/gateway-class-name=\"istio-waypoint\"\n")
	r.mount("etc/istio/pod/annotations", "istio.io/rev=\"default\"\n")
	r.client = testmesh.NewClient(r.source("clients", "curl"))
	t.Cleanup(r.client.Close)
	r.http = &http.Client{Transport: &http.Transport{}, Timeout: 10 * time.Second}
	t.Cleanup(r.http.CloseIdleConnections)
	return r
}

// template is the environment of Istio's waypoint Deployment.
func (r *meshRig) template() []string {
	return []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"),
		"POD_NAME=waypoint-6c5d8-abcde", "POD_NAMESPACE=shop", "INSTANCE_IP=127.0.0.1", "SERVICE_ACCOUNT=waypoint", "HOST_IP=127.0.0.1",
		"ISTIO_META_SERVICE_ACCOUNT=waypoint", "ISTIO_META_NODE_NAME=node-1", "PILOT_CERT_PROVIDER=istiod", "CA_ADDR=" + r.istiod.Addr(),
		`PROXY_CONFIG={"discoveryAddress":"` + r.istiod.Addr() + `","terminationDrainDuration":"2s"}`,
		"ISTIO_META_CLUSTER_ID=Kubernetes", "ISTIO_META_INTERCEPTION_MODE=REDIRECT", "ISTIO_META_WORKLOAD_NAME=waypoint",
		"ISTIO_META_OWNER=kubernetes://apis/apps/v1/namespaces/shop/deployments/waypoint", "ISTIO_META_MESH_ID=cluster.local", "TRUST_DOMAIN=cluster.local",
		"GOMEMLIMIT=1073741824", "ISTIOD_SAN=" + testmesh.IstiodName,
	}
}

// command is the template's, with free ports instead of Istio's.
func (r *meshRig) command(env ...string) *exec.Cmd {
	cmd := exec.Command(binary, "proxy", "waypoint", "--domain", "shop.svc.cluster.local", "--serviceCluster", "waypoint.shop",
		"--proxyLogLevel", "warning", "--proxyComponentLogLevel", "misc:error", "--log_output_level", "default:debug", "--log_as_json", "--outlierLogPath=/dev/stdout",
		"--root-dir", r.root, "--hbone-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0", "--metrics-addr", "127.0.0.1:0", "--ready-addr", "127.0.0.1:0", "--stats-addr", "")
	cmd.Env = append(r.template(), env...)
	return cmd
}

func (r *meshRig) startProxy(env ...string) {
	r.t.Helper()
	r.cmd = r.command(env...)
	r.launch()
	r.front = r.capture("10.96.1.2:80")
}

// capture is a client's way to a service.
func (r *meshRig) capture(authority string) *testmesh.Capture {
	r.t.Helper()
	k, err := r.client.Capture("127.0.0.1:0", func() netip.AddrPort { return r.hbone }, authority)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { k.Close() })
	return k
}

func (r *meshRig) requests() int { return r.app.Count() + r.pod.Count() }

// revoke is a revocation list of the mesh's CA. Its signature is anybody's: the file
// is trusted as the roots beside it are.
func (r *meshRig) revoke(s *identity.SVID) string {
	r.t.Helper()
	block, _ := pem.Decode(r.ca.Bundle().PEM)
	issuer, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		r.t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		r.t.Fatal(err)
	}
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(1), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour),
		RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: s.Certificate.Leaf.SerialNumber, RevocationTime: time.Now()}},
	}, issuer, key)
	if err != nil {
		r.t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}))
}
