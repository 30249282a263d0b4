package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"waypoint.dev/waypoint/hbone"
	"waypoint.dev/waypoint/identity"
	"waypoint.dev/waypoint/internal/testmesh"
)

// rig is the shop with its waypoint as a process, on addresses of its own.
type rig struct {
	t      *testing.T
	ca     *identity.CA
	dir    string // certificates
	config string
	app    *testmesh.App
	node   *testmesh.Node
	client *testmesh.Client
	front  *testmesh.Capture
	http   *http.Client

	from         []string // where its configuration comes from; nil: the directory
	id           []string // where its certificate comes from; nil: files
	cmd          *exec.Cmd
	hbone        netip.AddrPort
	admin, ready string
	exited       chan error

	mu  sync.Mutex
	log bytes.Buffer
}

const podIP = "127.0.6.21"

// newRig starts everything; args go to `waypoint run` behind the usual ones.
func newRig(t *testing.T, args ...string) *rig {
	t.Helper()
	return newRigFrom(t, nil, args...)
}

// newRigFrom lets source say where the configuration of the directory comes from.
func newRigFrom(t *testing.T, source func(*rig) []string, args ...string) *rig {
	t.Helper()
	r := &rig{t: t, dir: t.TempDir(), config: shop(t)}
	files, _ := filepath.Glob(r.config + "/*.yaml")
	for _, f := range files {
		b, _ := os.ReadFile(f)
		os.WriteFile(f, bytes.ReplaceAll(b, []byte("127.0.1."), []byte("127.0.6.")), 0o644)
	}
	var err error
	if r.ca, err = identity.NewCA("cluster.local"); err != nil {
		t.Fatal(err)
	}
	r.writeIdentity()
	ip := netip.MustParseAddr(podIP)
	if r.app, err = testmesh.NewApp("cart-v2", podIP+":8080"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.app.Close() })
	if r.node, err = testmesh.NewNode(ip, r.source("shop", "cart"), nil, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.node.Close() })
	if r.from = []string{"--config", r.config}; source != nil {
		r.from = source(r)
	}
	r.start(args...)
	r.client = testmesh.NewClient(r.source("clients", "curl"))
	t.Cleanup(r.client.Close)
	if r.front, err = r.client.Capture("127.0.0.1:0", func() netip.AddrPort { return r.hbone }, "10.96.0.12:80"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.front.Close() })
	r.http = &http.Client{Transport: &http.Transport{}, Timeout: 10 * time.Second}
	t.Cleanup(r.http.CloseIdleConnections)
	return r
}

func (r *rig) source(ns, sa string) identity.Source {
	s := r.ca.Source(ns, sa, time.Hour)
	r.t.Cleanup(func() { s.Close() })
	return s
}

// writeIdentity puts a new certificate and the CA's present roots in place.
func (r *rig) writeIdentity() string {
	svid, err := r.ca.Issue("shop", "waypoint", time.Hour)
	if err != nil {
		r.t.Fatal(err)
	}
	chain, key, err := svid.PEM()
	if err != nil {
		r.t.Fatal(err)
	}
	for name, b := range map[string][]byte{"cert.pem": chain, "key.pem": key, "roots.pem": r.ca.Bundle().PEM} {
		tmp := filepath.Join(r.dir, "."+name)
		os.WriteFile(tmp, b, 0o600)
		os.Rename(tmp, filepath.Join(r.dir, name))
	}
	return svid.Certificate.Leaf.SerialNumber.Text(16)
}

func (r *rig) start(args ...string) {
	r.t.Helper()
	r.command(args...)
	r.launch()
}

// command makes cmd.
func (r *rig) command(args ...string) {
	from := r.from
	if from == nil {
		from = []string{"--config", r.config}
	}
	id := r.id
	if id == nil {
		id = []string{"--cert", r.dir + "/cert.pem", "--key", r.dir + "/key.pem", "--roots", r.dir + "/roots.pem"}
	}
	r.cmd = exec.Command(binary, slices.Concat([]string{"run"}, from, id, []string{"--log-format", "json",
		"--hbone-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0", "--metrics-addr", "127.0.0.1:0", "--ready-addr", "127.0.0.1:0", "--stats-addr", ""}, args)...)
}

// launch starts cmd and waits until it serves.
func (r *rig) launch() {
	r.t.Helper()
	select {
	case <-r.begin():
	case err := <-r.exited:
		r.exited <- err
		r.t.Fatalf("the waypoint ended: %v\n%s", err, r.said())
	case <-time.After(20 * time.Second):
		r.t.Fatalf("not serving:\n%s", r.said())
	}
}

// begin starts cmd, whose log it collects; serving is closed when it serves.
func (r *rig) begin() <-chan struct{} {
	r.t.Helper()
	stderr, err := r.cmd.StderrPipe()
	if err != nil {
		r.t.Fatal(err)
	}
	if err := r.cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.exited = make(chan error, 1)
	serving := make(chan struct{})
	go func() {
		var once sync.Once
		s := bufio.NewScanner(stderr)
		s.Buffer(nil, 1<<20)
		for s.Scan() {
			r.mu.Lock()
			r.log.Write(s.Bytes())
			r.log.WriteByte('\n')
			r.mu.Unlock()
			var line struct{ Msg, HBONE, Admin, Ready string }
			if json.Unmarshal(s.Bytes(), &line) == nil && line.Msg == "serving" {
				once.Do(func() {
					r.hbone, _ = netip.ParseAddrPort(line.HBONE)
					r.admin, r.ready = "http://"+line.Admin, "http://"+line.Ready
					close(serving)
				})
			}
		}
		r.exited <- r.cmd.Wait()
	}()
	r.t.Cleanup(func() {
		r.cmd.Process.Kill()
		<-r.exited
		if r.t.Failed() {
			said := r.said()
			r.t.Logf("the waypoint said:\n%s", said[max(0, len(said)-6000):])
		}
	})
	return serving
}

func (r *rig) said() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log.String()
}

// wait returns how the process ended.
func (r *rig) wait(d time.Duration) error {
	r.t.Helper()
	select {
	case err := <-r.exited:
		r.exited <- err
		return err
	case <-time.After(d):
		r.t.Fatalf("still running after %v:\n%s", d, r.said())
	}
	return nil
}

func (r *rig) get(path string) (int, string, http.Header) {
	r.t.Helper()
	return r.fetch("http://" + r.front.Addr().String() + path)
}

func (r *rig) fetch(url string) (int, string, http.Header) {
	r.t.Helper()
	res, err := r.http.Get(url)
	if err != nil {
		r.t.Fatalf("%s: %v\n%s", url, err, r.said())
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		r.t.Fatalf("%s: %v", url, err)
	}
	return res.StatusCode, string(b), res.Header
}

// eventually polls until ok says yes.
func (r *rig) eventually(what string, ok func() bool) {
	r.t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
		if ok() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	r.t.Fatalf("not within 10 s: %s\n%s", what, r.said())
}

func (r *rig) put(file, data string) {
	tmp := filepath.Join(r.config, "."+file)
	os.WriteFile(tmp, []byte(data), 0o644)
	os.Rename(tmp, filepath.Join(r.config, file))
}

func TestDrainLosesNothing(t *testing.T) {
	r := newRig(t, "--drain-delay", "500ms", "--drain-timeout", "10s")
	if code, body, _ := r.get("/items"); code != 200 {
		t.Fatalf("%d %s", code, body)
	}
	if code, _, _ := r.fetch(r.ready + "/healthz/ready"); code != 200 {
		t.Fatalf("ready: %d", code)
	}
	// A request that is under way for longer than the delay.
	slow := make(chan int, 1)
	go func() {
		res, err := r.http.Get("http://" + r.front.Addr().String() + "/slow?delay=2s")
		if err != nil {
			slow <- 0
			return
		}
		io.Copy(io.Discard, res.Body)
		res.Body.Close()
		slow <- res.StatusCode
	}()
	r.eventually("the slow request is at the app", func() bool { return r.app.Count() >= 2 })
	r.cmd.Process.Signal(syscall.SIGTERM)
	r.eventually("not ready", func() bool {
		res, err := r.http.Get(r.ready + "/healthz/ready")
		if err != nil {
			return false
		}
		res.Body.Close()
		return res.StatusCode == 503
	})
	// New connections are still taken during the delay.
	fresh := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}
	res, err := fresh.Get("http://" + r.front.Addr().String() + "/during")
	if err != nil {
		t.Fatalf("a new connection during the drain delay: %v\n%s", err, r.said())
	}
	res.Body.Close()
	if res.StatusCode != 200 {
		t.Errorf("a request during the drain delay: %d", res.StatusCode)
	}
	if code := <-slow; code != 200 {
		t.Errorf("the request that was under way ended with %d\n%s", code, r.said())
	}
	if err := r.wait(10 * time.Second); err != nil {
		t.Errorf("exit: %v\n%s", err, r.said())
	}
	if !strings.Contains(r.said(), `"msg":"drained"`) {
		t.Errorf("not drained:\n%s", r.said())
	}
}

// A tunnel that was opened for a request which is still on its way is waited for,
// five seconds (proxy.firstGrace), and not for as long as the drain may take.
func TestDrainOfSilentTunnels(t *testing.T) {
	r := newRig(t, "--drain-delay", "0s", "--drain-timeout", "1m")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var tunnels [2]*hbone.Tunnel
	for i := range tunnels {
		var err error
		if tunnels[i], err = r.client.Dial(ctx, r.hbone, "10.96.0.12:80"); err != nil {
			t.Fatal(err)
		}
		defer tunnels[i].Close()
	}
	late, silent := tunnels[0], tunnels[1]
	start := time.Now()
	r.cmd.Process.Signal(syscall.SIGTERM)
	r.eventually("draining", func() bool { return strings.Contains(r.said(), `"msg":"draining"`) })
	io.WriteString(late, "GET /late HTTP/1.1\r\nHost: cart\r\n\r\n")
	res, err := http.ReadResponse(bufio.NewReader(late), nil)
	if err != nil {
		t.Fatalf("the first request of a tunnel while it drains: %v\n%s", err, r.said())
	}
	if res.StatusCode != 200 || !res.Close {
		t.Errorf("%d, close %v", res.StatusCode, res.Close)
	}
	if b, err := io.ReadAll(struct{ io.Reader }{silent}); err != nil || len(b) > 0 {
		t.Errorf("the silent tunnel ended with %q, %v", b, err)
	}
	if d := time.Since(start); d < 5*time.Second || d > 15*time.Second {
		t.Errorf("the silent tunnel ended after %v", d)
	}
	if err := r.wait(10 * time.Second); err != nil || !strings.Contains(r.said(), `"msg":"drained"`) {
		t.Errorf("exit: %v\n%s", err, r.said())
	}
}

// What the deadline cuts is logged as that, and not as the client's doing.
func TestDrainDeadline(t *testing.T) {
	r := newRig(t, "--access-log", "/dev/stderr", "--drain-delay", "0s", "--drain-timeout", "500ms")
	go r.http.Get("http://" + r.front.Addr().String() + "/slow?delay=9s")
	r.eventually("the slow request is at the app", func() bool { return r.app.Count() == 1 })
	r.cmd.Process.Signal(syscall.SIGTERM)
	if err := r.wait(5 * time.Second); err != nil {
		t.Errorf("exit: %v", err)
	}
	if s := r.said(); !strings.Contains(s, "the drain deadline passed") || !strings.Contains(s, " LR drain_deadline ") {
		t.Errorf("said:\n%s", s)
	}
}

func TestSecondSignalEndsAtOnce(t *testing.T) {
	r := newRig(t, "--drain-delay", "0s", "--drain-timeout", "1m")
	go r.http.Get("http://" + r.front.Addr().String() + "/slow?delay=9s")
	r.eventually("the slow request is at the app", func() bool { return r.app.Count() == 1 })
	r.cmd.Process.Signal(syscall.SIGTERM)
	r.eventually("draining", func() bool { return strings.Contains(r.said(), `"msg":"draining"`) })
	r.cmd.Process.Signal(syscall.SIGTERM)
	start := time.Now()
	var ee *exec.ExitError
	if err := r.wait(5 * time.Second); !errors.As(err, &ee) || ee.ExitCode() != 1 {
		t.Errorf("exit: %v", err)
	}
	if d := time.Since(start); d > 3*time.Second {
		t.Errorf("it took %v", d)
	}
}

func TestConfigurationReloads(t *testing.T) {
	r := newRig(t)
	deny := `
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: none, namespace: shop}
spec: {targetRefs: [{group: "", kind: Service, name: cart-v2}], action: DENY, rules: [{to: [{operation: {paths: ["/secret*"]}}]}]}
`
	if code, _, _ := r.get("/secret"); code != 200 {
		t.Fatalf("before: %d", code)
	}
	r.put("deny.yaml", deny)
	r.eventually("the policy holds", func() bool { code, _, _ := r.get("/secret"); return code == 403 })
	// A broken file changes nothing, and says so in metric and log.
	r.put("deny.yaml", strings.Replace(deny, "paths", "pahts", 1))
	r.eventually("the error is counted", func() bool {
		_, body, _ := r.fetch(r.admin + "/stats?filter=waypoint_config_errors")
		return strings.Contains(body, "waypoint_config_errors{}:") && !strings.Contains(body, "waypoint_config_errors{}: 0")
	})
	if code, _, _ := r.get("/secret"); code != 403 {
		t.Errorf("a broken policy opened what its last good version denied: %d", code)
	}
	if !strings.Contains(r.said(), "pahts") {
		t.Errorf("the log does not name the field:\n%s", r.said())
	}
	// A new policy that cannot be read denies its target.
	r.put("other.yaml", strings.NewReplacer("name: none", "name: bad", "paths", "pahts").Replace(deny))
	r.eventually("an unreadable policy denies", func() bool { code, _, _ := r.get("/open"); return code == 403 })
	os.Remove(filepath.Join(r.config, "other.yaml"))
	r.eventually("its removal opens", func() bool { code, _, _ := r.get("/open"); return code == 200 })
	// So does what only compiling finds.
	r.put("frame.yaml", `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: frame, namespace: shop}
spec:
  parentRefs: [{group: "", kind: Service, name: cart-v2}]
  rules: [{filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: content-length, value: "1"}]}}]}]
`)
	r.eventually("the log names file and field", func() bool {
		return strings.Contains(r.said(), "spec.rules[0].filters.request.set[0]") && strings.Contains(r.said(), "frame.yaml:")
	})
	_, dump, _ := r.fetch(r.admin + "/config_dump")
	if !strings.Contains(dump, "cart-v2.shop.svc.cluster.local:80") || !strings.Contains(dump, "Accepted") || !strings.Contains(dump, "pahts") || strings.Contains(dump, "PRIVATE") {
		t.Errorf("config dump:\n%s", dump)
	}
}

func TestCertificatesRotate(t *testing.T) {
	r := newRig(t)
	asking := r.ask(r.front.Addr(), 1, "GET", "POST")
	inUse := func(serial string) {
		t.Helper()
		r.eventually("the new certificate is in use", func() bool {
			_, certs, _ := r.fetch(r.admin + "/certs")
			return strings.Contains(certs, serial)
		})
	}
	for range 3 {
		inUse(r.writeIdentity())
	}
	// As a CA changes its root: the waypoint knows the new one before anybody shows
	// a certificate that it signed.
	if err := r.ca.AnnounceRoot(); err != nil {
		t.Fatal(err)
	}
	inUse(r.writeIdentity())
	if err := r.ca.RotateRoot(); err != nil {
		t.Fatal(err)
	}
	inUse(r.writeIdentity())
	asking.flow(t)
	asking.end()
}

func TestAddressInUse(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	dir := t.TempDir()
	r := &rig{t: t, dir: dir}
	r.ca, _ = identity.NewCA("cluster.local")
	r.writeIdentity()
	out, err := exec.Command(binary, "run", "--config", shop(t), "--cert", dir+"/cert.pem", "--key", dir+"/key.pem", "--roots", dir+"/roots.pem",
		"--hbone-addr", ln.Addr().String(), "--admin-addr", "127.0.0.1:0", "--metrics-addr", "", "--ready-addr", "", "--stats-addr", "").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "--hbone-addr") {
		t.Errorf("%v: %s", err, out)
	}
}
