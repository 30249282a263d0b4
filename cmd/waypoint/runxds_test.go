package main

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"sigs.k8s.io/yaml"

	"waypoint.dev/waypoint/config/kube"
	"waypoint.dev/waypoint/controller/feed"
	"waypoint.dev/waypoint/controller/pki"
)

// controller is an object server on loopback, which a test may stop and start again
// at the same address.
type controller struct {
	t       *testing.T
	cert    tls.Certificate
	roots   string
	token   string
	addr    string
	version int

	mesh   string // file of the roots whose certificates prove a waypoint, beside the token; empty: none do
	store  *feed.Store
	server *feed.Server
	grpc   *grpc.Server
	done   chan struct{}
}

func newController(t *testing.T) *controller {
	// Its certificate is good for 127.0.0.1.
	https := httptest.NewUnstartedServer(http.NotFoundHandler())
	https.StartTLS()
	c := &controller{t: t, cert: https.TLS.Certificates[0], addr: "127.0.0.1:0"}
	https.Close()
	dir := t.TempDir()
	c.roots, c.token = filepath.Join(dir, "ca.crt"), filepath.Join(dir, "token")
	os.WriteFile(c.roots, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: https.Certificate().Raw}), 0o600)
	os.WriteFile(c.token, []byte("good\n"), 0o600)
	c.start()
	t.Cleanup(func() { c.stop() })
	return c
}

// start begins with an empty store, as a controller that restarts does.
func (c *controller) start() {
	ln, err := net.Listen("tcp", c.addr)
	if err != nil {
		c.t.Fatal(err)
	}
	c.addr = ln.Addr().String()
	c.store = feed.NewStore(feed.Mesh{})
	c.server = feed.New(c.store, feed.Options{Verify: func(_ context.Context, token string) (string, string, error) {
		if token != "good" {
			return "", "", errors.New("unknown")
		}
		return "shop", "waypoint", nil
	}})
	g, done := grpc.NewServer(append(feed.ServerOptions(), grpc.Creds(credentials.NewTLS(c.tls())))...), make(chan struct{})
	c.server.Register(g)
	go func() { defer close(done); g.Serve(ln) }()
	c.grpc, c.done = g, done
}

// tls is the configuration of waypoint-controller.
func (c *controller) tls() *tls.Config {
	var clients *pki.Clients
	if c.mesh != "" {
		var err error
		if clients, err = pki.NewClients(c.mesh, slog.New(slog.DiscardHandler)); err != nil {
			c.t.Fatal(err)
		}
	}
	return pki.ServerTLS(static{&c.cert}, clients)
}

// static is a certificate that stays.
type static struct{ cert *tls.Certificate }

func (s static) Certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.cert, nil }
func (static) Roots() []byte                                                { return nil }
func (static) Changed() <-chan struct{}                                     { return nil }

func (c *controller) stop() { c.grpc.Stop(); <-c.done }

// put puts the objects of manifests.
func (c *controller) put(manifests ...string) {
	c.t.Helper()
	for _, m := range manifests {
		for doc := range strings.SplitSeq(m, "\n---") {
			raw, err := yaml.YAMLToJSON([]byte(doc))
			if err != nil {
				c.t.Fatal(err)
			}
			if string(raw) == "null" {
				continue
			}
			o, err := kube.Decode(raw, "")
			if err != nil {
				c.t.Fatal(err)
			}
			c.version++
			if err := c.store.Put(feed.Object{Key: o.Key, Version: fmt.Sprint(c.version), JSON: raw}); err != nil {
				c.t.Fatal(err)
			}
		}
	}
}

// putAll puts the manifests of a directory.
func (c *controller) putAll(dir string) {
	files, _ := filepath.Glob(dir + "/*.yaml")
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			c.t.Fatal(err)
		}
		c.put(string(b))
	}
}

// source is how a waypoint gets at the controller.
func (c *controller) source(*rig) []string {
	return []string{"--xds", c.addr, "--xds-roots", c.roots, "--xds-token", c.token, "--waypoint", "shop/waypoint"}
}

const denySecret = `
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: none, namespace: shop}
spec: {targetRefs: [{group: "", kind: Service, name: cart-v2}], action: DENY, rules: [{to: [{operation: {paths: ["/secret*"]}}]}]}
`

// stat returns a metric as the administration port shows it.
func (r *rig) stat(name string) string {
	_, body, _ := r.fetch(r.admin + "/stats?filter=" + name)
	for line := range strings.Lines(body) {
		if rest, ok := strings.CutPrefix(line, name+"{}: "); ok {
			return strings.TrimSpace(rest)
		}
	}
	return ""
}

func TestRunFromController(t *testing.T) {
	c := newController(t)
	const ready = "127.0.6.98:15021"
	r := newRigFrom(t, func(r *rig) []string {
		go func() {
			// Alive, but not ready, before everything came.
			hc := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
			for {
				res, err := hc.Get("http://" + ready + "/healthz/ready")
				if err == nil {
					res.Body.Close()
					if res.StatusCode == 200 {
						t.Error("ready without configuration")
					}
					break
				}
				time.Sleep(10 * time.Millisecond)
			}
			c.putAll(r.config)
			c.store.SetSynced()
		}()
		return c.source(r)
	}, "--ready-addr", ready)
	if code, _, _ := r.get("/secret"); code != 200 {
		t.Fatalf("before: %d", code)
	}
	r.eventually("ready", func() bool { code, _, _ := r.fetch("http://" + ready + "/healthz/ready"); return code == 200 })

	c.put(denySecret)
	r.eventually("the policy holds", func() bool { code, _, _ := r.get("/secret"); return code == 403 })

	// What it cannot read it refuses, by name and field, and keeps the last good version.
	c.put(strings.Replace(denySecret, "paths", "pahts", 1))
	r.eventually("the refusal is counted", func() bool { return r.stat("waypoint_xds_objects_refused") == "1" })
	if code, _, _ := r.get("/secret"); code != 403 {
		t.Errorf("a broken policy opened what its last good version denied: %d", code)
	}
	if said := r.said(); !strings.Contains(said, "AuthorizationPolicy/shop/none: spec.rules[0].to[0].operation.pahts") {
		t.Errorf("the log does not name object and field:\n%s", said)
	}
	_, dump, _ := r.fetch(r.admin + "/config_dump?include_objects")
	for _, want := range []string{`"controller": "` + c.addr, `"Service/shop/cart-v2"`, "operation.pahts", "cart-v2.shop.svc.cluster.local:80"} {
		if !strings.Contains(dump, want) {
			t.Errorf("the config dump lacks %s:\n%.3000s", want, dump)
		}
	}

	c.store.Delete(kube.Key{Group: "security.istio.io", Kind: "AuthorizationPolicy", Namespace: "shop", Name: "none"})
	r.eventually("its removal opens", func() bool { code, _, _ := r.get("/secret"); return code == 200 })
	if n := r.stat("waypoint_xds_objects_refused"); n != "0" {
		t.Errorf("%s objects are refused", n)
	}
}

// The controller goes and comes back under load, with another state: no request is
// lost, what was received serves meanwhile, and what changed arrives.
func TestControllerRestartLosesNothing(t *testing.T) {
	c := newController(t)
	r := newRigFrom(t, func(r *rig) []string {
		c.putAll(r.config)
		c.put(denySecret)
		c.store.SetSynced()
		return c.source(r)
	})
	asking := r.ask(r.front.Addr(), 2, "GET")
	asking.flow(t)
	c.stop()
	r.eventually("the stream is gone", func() bool { return r.stat("waypoint_xds_connected") == "0" })
	asking.flow(t)
	if code, _, _ := r.get("/secret"); code != 403 {
		t.Errorf("without the controller a policy is gone: %d", code)
	}
	c.start()
	c.put(strings.ReplaceAll(denySecret, "secret", "late"))
	c.putAll(r.config)
	asking.flow(t)
	if code, _, _ := r.get("/secret"); code != 403 {
		t.Errorf("a controller that does not know everything yet took a policy away: %d", code)
	}
	c.store.SetSynced()
	r.eventually("the new policy holds", func() bool { code, _, _ := r.get("/late"); return code == 403 })
	if code, _, _ := r.get("/secret"); code != 200 {
		t.Errorf("the policy is not replaced: %d", code)
	}
	asking.flow(t)
	asking.end()
}
