package main

import (
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"waypoint.dev/waypoint/internal/testmesh"
)

const (
	waitReady = "http://127.0.7.40:15021/healthz/ready"
	waitAdmin = "http://127.0.7.40:15000"
	tokenFile = "var/run/secrets/tokens/istio-token"
)

// waitingProxy is a waypoint that the CA gives no certificate.
func waitingProxy(t *testing.T) (r *meshRig, serving <-chan struct{}) {
	r = prepareMesh(t, "01-basic", time.Hour)
	r.mount(tokenFile, "")
	r.cmd = r.command()
	r.cmd.Args = append(r.cmd.Args, "--ready-addr", "127.0.7.40:15021", "--admin-addr", "127.0.7.40:15000")
	serving = r.begin()
	r.eventually("a reason while there is no certificate", func() bool {
		code, body := r.probe(waitReady)
		return code == http.StatusServiceUnavailable && strings.Contains(body, "no certificate")
	})
	return r, serving
}

// probe asks a port that may not be open.
func (r *meshRig) probe(url string) (int, string) {
	res, err := r.http.Get(url)
	if err != nil {
		return 0, ""
	}
	defer res.Body.Close()
	b, _ := io.ReadAll(res.Body)
	return res.StatusCode, string(b)
}

// A waypoint that cannot get its certificate yet says so to probes and people, and
// serves once it can.
func TestProxyTellsWhyItWaits(t *testing.T) {
	r, serving := waitingProxy(t)
	if code, body := r.probe(waitAdmin + "/server_info"); code != http.StatusOK || !strings.Contains(body, "PRE_INITIALIZING") {
		t.Errorf("server_info: %d %s", code, body)
	}
	r.mount(tokenFile, r.istiod.Token(testmesh.Account{Namespace: "shop", Name: "waypoint"}))
	select {
	case <-serving:
	case <-time.After(10 * time.Second):
		t.Fatalf("not serving:\n%s", r.said())
	}
	r.eventually("ready", func() bool {
		code, _ := r.probe(waitReady)
		return code == http.StatusOK
	})
}

func TestProxyStopsWhileWaiting(t *testing.T) {
	r, _ := waitingProxy(t)
	res, err := http.Post(waitAdmin+"/quitquitquit", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	if err := r.wait(5 * time.Second); err != nil || res.StatusCode != http.StatusOK {
		t.Errorf("answer %d, exit %v", res.StatusCode, err)
	}
}

// `waypoint run` waits for a CA in the same way.
func TestRunTellsWhyItWaits(t *testing.T) {
	r := prepareMesh(t, "01-basic", time.Hour)
	r.mount(tokenFile, "")
	r.cmd = exec.Command(binary, "run", "--config", t.TempDir(), "--waypoint", "shop/waypoint", "--ca", r.istiod.Addr(), "--ca-server-name", testmesh.IstiodName,
		"--ca-token", filepath.Join(r.root, tokenFile), "--roots", filepath.Join(r.root, "var/run/secrets/istio/root-cert.pem"),
		"--ready-addr", "127.0.7.40:15021", "--admin-addr", "127.0.7.40:15000", "--metrics-addr", "127.0.0.1:0", "--stats-addr", "", "--hbone-addr", "127.0.0.1:0")
	r.begin()
	r.eventually("a reason while there is no certificate", func() bool {
		code, body := r.probe(waitReady)
		return code == http.StatusServiceUnavailable && strings.Contains(body, "no certificate")
	})
}
