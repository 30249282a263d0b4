package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"waypoint.dev/waypoint/identity"
	"waypoint.dev/waypoint/internal/testmesh"
)

// identified are the ways in which a waypoint gets the certificate by which it proves
// itself to the controller and in the mesh.
var identified = map[string]func(t *testing.T, r *rig) []string{
	"files": func(*testing.T, *rig) []string { return nil },
	"ca": func(t *testing.T, r *rig) []string {
		ca, err := testmesh.NewIstiod(r.ca, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(ca.Close)
		roots, token := filepath.Join(r.dir, "ca.pem"), filepath.Join(r.dir, "ca-token")
		os.WriteFile(roots, ca.RootPEM, 0o600)
		os.WriteFile(token, []byte(ca.Token(testmesh.Account{Namespace: "shop", Name: "waypoint"})), 0o600)
		return []string{"--ca", ca.Addr(), "--ca-server-name", testmesh.IstiodName, "--ca-token", token, "--roots", roots}
	},
	"workload api": func(t *testing.T, r *rig) []string {
		api, err := testmesh.NewWorkloadAPI(false)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(api.Close)
		svid, err := r.ca.Issue("shop", "waypoint", time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		if err := api.Say(svid, r.ca); err != nil {
			t.Fatal(err)
		}
		return []string{"--workload-api", api.Path}
	},
}

// A waypoint without a token proves itself to the controller by its certificate,
// wherever that comes from, and serves by the same one.
func TestRunFromControllerByCertificate(t *testing.T) {
	for name, certificate := range identified {
		t.Run(name, func(t *testing.T) {
			c := newController(t)
			r := newRigFrom(t, func(r *rig) []string {
				r.id = certificate(t, r)
				c.mesh = filepath.Join(r.dir, "roots.pem")
				c.stop()
				c.start()
				c.putAll(r.config)
				c.put(denySecret)
				c.store.SetSynced()
				return c.byCertificate()
			})
			if code, _, _ := r.get("/"); code != 200 {
				t.Errorf("a request: %d", code)
			}
			if code, _, _ := r.get("/secret"); code != 403 {
				t.Errorf("what the controller's policy denies: %d", code)
			}
			if st := c.server.Stats(); st.Streams != 1 {
				t.Errorf("%+v", st)
			}
		})
	}
}

// byCertificate is how a waypoint without a token gets at the controller.
func (c *controller) byCertificate() []string {
	return []string{"--xds", c.addr, "--xds-roots", c.roots, "--waypoint", "shop/waypoint"}
}

// Whose certificate is of another account, or of no CA that the controller knows, gets
// nothing, is not ready, and says why.
func TestControllerRefusesCertificate(t *testing.T) {
	for name, prepare := range map[string]func(t *testing.T, r *rig, c *controller) (says string){
		"another account": func(t *testing.T, r *rig, c *controller) string {
			svid, err := r.ca.Issue("shop", "cart", time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			chain, key, err := svid.PEM()
			if err != nil {
				t.Fatal(err)
			}
			os.WriteFile(filepath.Join(r.dir, "cert.pem"), chain, 0o600)
			os.WriteFile(filepath.Join(r.dir, "key.pem"), key, 0o600)
			c.mesh = filepath.Join(r.dir, "roots.pem")
			return "service account shop/cart does not run Gateway shop/waypoint"
		},
		"another CA": func(_ *testing.T, _ *rig, c *controller) string {
			c.mesh = c.roots
			return "unknown certificate authority"
		},
		"a controller that knows tokens only": func(*testing.T, *rig, *controller) string { return "a certificate of the mesh is needed" },
	} {
		t.Run(name, func(t *testing.T) {
			ca, err := identity.NewCA("cluster.local")
			if err != nil {
				t.Fatal(err)
			}
			c, r := newController(t), &rig{t: t, ca: ca, dir: t.TempDir(), http: &http.Client{}}
			t.Cleanup(r.http.CloseIdleConnections)
			r.writeIdentity()
			says := prepare(t, r, c)
			c.stop()
			c.start()
			c.putAll(shop(t))
			c.store.SetSynced()
			const ready = "127.0.6.97:15021"
			r.from = c.byCertificate()
			r.command("--ready-addr", ready)
			serving := r.begin()
			r.eventually("it says why", func() bool { return strings.Contains(r.said(), says) })
			if code, _, _ := r.fetch("http://" + ready + "/healthz/ready"); code != 503 {
				t.Errorf("ready: %d", code)
			}
			select {
			case <-serving:
				t.Error("it serves")
			default:
			}
			if st := c.server.Stats(); st.Waypoints != 0 {
				t.Errorf("it was served: %+v", st)
			}
		})
	}
}
