package demo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"waypoint.dev/waypoint/examples/shop"
	"waypoint.dev/waypoint/identity"
	"waypoint.dev/waypoint/internal/testmesh"
)

const (
	trustDomain = "cluster.local"
	cartVIP     = "10.96.0.10:80"
	appPort     = 8080
	// Long enough that no certificate is renewed while the demo stays up.
	certTTL = 24 * time.Hour
)

// pod is one pod of the example: an application and the node proxy before it.
type pod struct {
	name string
	app  *testmesh.App
	node *testmesh.Node
}

// kill ends the pod as a crash does: nobody is told.
func (p *pod) kill() {
	p.node.Close()
	p.app.Kill()
}

// mesh is everything around the waypoint.
type mesh struct {
	dir      string // scratch: configuration, certificates, access log
	ca       *identity.CA
	sources  []identity.Source
	pods     []*pod
	clients  map[string]*testmesh.Client
	captures map[string]*testmesh.Capture
	waypoint *process
}

// start brings up the mesh; configDir empty means the embedded example.
func start(ctx context.Context, o Options) (m *mesh, err error) {
	dir, err := os.MkdirTemp("", "waypoint-demo-")
	if err != nil {
		return nil, err
	}
	m = &mesh{dir: dir, clients: map[string]*testmesh.Client{}, captures: map[string]*testmesh.Capture{}}
	defer func() {
		if err != nil {
			m.close()
			m = nil
		}
	}()
	if m.ca, err = identity.NewCA(trustDomain); err != nil {
		return m, err
	}
	if err = m.ca.WriteFiles(m.dir, "shop", "waypoint", certTTL); err != nil {
		return m, err
	}
	config := o.Config
	if config == "" {
		config = filepath.Join(dir, "config")
		if err = copyFiles(shop.Files, config); err != nil {
			return m, err
		}
	}
	for name, ip := range map[string]string{"cart-v1-a": "127.0.1.11", "cart-v1-b": "127.0.1.12", "cart-v2-a": "127.0.1.21"} {
		if err = m.addPod(name, netip.MustParseAddr(ip)); err != nil {
			return m, fmt.Errorf("%w (is another demo running?)", err)
		}
	}
	if m.waypoint, err = startProcess(ctx, o, config, dir); err != nil {
		return m, err
	}
	at := func() netip.AddrPort { return m.waypoint.hbone }
	for _, sa := range []string{"curl", "intruder"} {
		c := testmesh.NewClient(m.source("clients", sa))
		m.clients[sa] = c
		if m.captures[sa], err = c.Capture("127.0.0.1:0", at, cartVIP); err != nil {
			return m, err
		}
	}
	return m, nil
}

func (m *mesh) source(ns, sa string) identity.Source {
	s := m.ca.Source(ns, sa, certTTL)
	m.sources = append(m.sources, s)
	return s
}

func (m *mesh) addPod(name string, ip netip.Addr) error {
	app, err := testmesh.NewApp(name, netip.AddrPortFrom(ip, appPort).String())
	if err != nil {
		return err
	}
	node, err := testmesh.NewNode(ip, m.source("shop", "cart"), nil, slog.New(slog.DiscardHandler))
	if err != nil {
		app.Close()
		return err
	}
	m.pods = append(m.pods, &pod{name, app, node})
	return nil
}

func (m *mesh) pod(name string) *pod {
	for _, p := range m.pods {
		if p.name == name {
			return p
		}
	}
	return nil
}

// seen returns which applications got the request, by name.
func (m *mesh) seen(id string) (apps []testmesh.Seen) {
	for _, p := range m.pods {
		apps = append(apps, p.app.Find(id)...)
	}
	return apps
}

func (m *mesh) close() error {
	var errs []error
	if m.waypoint != nil {
		errs = append(errs, m.waypoint.stop())
	}
	for _, k := range m.captures {
		k.Close()
	}
	for _, c := range m.clients {
		c.Close()
	}
	for _, p := range m.pods {
		p.kill()
	}
	for _, s := range m.sources {
		s.Close()
	}
	return errors.Join(append(errs, os.RemoveAll(m.dir))...)
}

func copyFiles(from fs.FS, to string) error {
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	names, err := fs.Glob(from, "*.yaml")
	if err != nil {
		return err
	}
	for _, n := range names {
		b, err := fs.ReadFile(from, n)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(to, strings.TrimPrefix(n, "/")), b, 0o644); err != nil {
			return err
		}
	}
	return nil
}
