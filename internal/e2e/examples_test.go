package e2e

import (
	"bytes"
	"encoding/json"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/config/kube"
	"waypoint.dev/waypoint/identity"
	"waypoint.dev/waypoint/internal/testmesh"
)

// The examples about callers, served and asked for real: package examples holds
// what explain says of the same requests.
func TestExamplesLive(t *testing.T) {
	m := newMesh(t)
	start := func(dir, pod, account string) {
		t.Helper()
		objs, err := kube.LoadDir(filepath.Join("../../examples", dir))
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range m.w.Serve(kube.NewBuilder(kube.Options{}).Build(objs)) {
			if p.Severity >= config.Warning {
				t.Errorf("%s: %s", dir, kube.ProblemLine(p))
			}
		}
		m.podOf(pod, account)
	}
	each := func(dir string, change func(status int) int) {
		t.Helper()
		b, err := os.ReadFile(filepath.Join("../../examples", dir, "expected.jsonl"))
		if err != nil {
			t.Fatal(err)
		}
		vip := map[string]string{"jwt": "10.96.8.1:80", "ext-authz": "10.96.8.2:80"}[dir]
		for line := range bytes.Lines(b) {
			var q struct {
				URL      string
				Headers  map[string]string
				Status   int
				Answer   int // by a running mesh, where explain asks nobody
				NotAsked []string
			}
			if err := json.Unmarshal(line, &q); err != nil {
				t.Fatal(err)
			}
			want := q.Status
			if q.Answer != 0 {
				want = q.Answer
			}
			if len(q.NotAsked) > 0 {
				want = change(want)
			}
			var headers []string
			for k, v := range q.Headers {
				headers = append(headers, k, v)
			}
			if a := m.askAt("clients", vip, "GET", strings.TrimPrefix(q.URL, "http://cart.shop"), headers...); a.StatusCode != want {
				t.Errorf("%s: %s %v: %d %q, want %d", dir, q.URL, q.Headers, a.StatusCode, a.body, want)
			}
		}
	}
	same := func(status int) int { return status }

	start("jwt", "127.60.8.1", "cart")
	each("jwt", same)

	start("ext-authz", "127.60.8.2", "cart")
	node, err := testmesh.NewNode(netip.MustParseAddr("127.60.8.3"), m.source("shop", "authz"), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close()
	ln, err := net.Listen("tcp", "127.60.8.3:9000")
	if err != nil {
		t.Fatal(err)
	}
	authorizer := testmesh.NewAuthorizer(ln, false)
	authorizer.Require = "x-ext-authz"
	each("ext-authz", same)
	if p := node.Peers(); len(p) != 1 || p[identity.URI("cluster.local", "shop", "waypoint")] == 0 {
		t.Errorf("the authorization server was called by %v", p)
	}
	authorizer.Close()
	each("ext-authz", func(int) int { return 503 })
}

// podOf starts an application and its node proxy.
func (m *mesh) podOf(ip, account string) {
	m.t.Helper()
	app, err := testmesh.NewApp(account, ip+":8080")
	if err != nil {
		m.t.Fatal(err)
	}
	m.root.Cleanup(func() { app.Close() })
	n, err := testmesh.NewNode(netip.MustParseAddr(ip), m.source("shop", account), nil, nil)
	if err != nil {
		m.t.Fatal(err)
	}
	m.root.Cleanup(func() { n.Close() })
}
