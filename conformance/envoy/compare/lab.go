package main

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"waypoint.dev/waypoint/conformance/envoy"
	"waypoint.dev/waypoint/conformance/measure"
	"waypoint.dev/waypoint/identity"
)

// pod is where the backend process is. Generated worlds have their subjects' pod there.
const pod = envoy.SubjectPod + ":15008"

type lab struct {
	dir             string
	client          identity.Source
	authority, host string
	envoy, waypoint *proxy
	stop            []func()
}

// proxy is one process under measurement.
type proxy struct {
	measure.PID
	name string
	addr netip.AddrPort
}

// world is one service with a route and a policy: what a user has at least.
func world() (*envoy.World, *envoy.Subject) {
	s := &envoy.Subject{Name: "echo", Norm: "BASE", Routes: []envoy.RouteRule{
		{Name: "admin", Matches: []envoy.RouteMatch{{PathKind: "PathPrefix", Path: "/admin"}}, Backends: []envoy.WeightedBackend{{Name: "echo", Weight: 1}}},
		{Name: "rest", Backends: []envoy.WeightedBackend{{Name: "echo", Weight: 1}}},
	}, Policies: []envoy.Policy{{Name: "clients", Action: "ALLOW", Rules: []envoy.PolicyRule{
		{From: []envoy.Fields{{"principals": {"cluster.local/ns/compare/sa/client"}}}},
	}}}}
	return &envoy.World{Namespace: "compare", Subjects: []*envoy.Subject{s}}, s
}

func newLab(ctx context.Context) (l *lab, err error) {
	l = &lab{}
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	if l.dir, err = os.MkdirTemp("", "compare-"); err != nil {
		return l, err
	}
	l.stop = append(l.stop, func() { os.RemoveAll(l.dir) })
	w, s := world()
	l.authority, l.host = s.Authority(), s.Host(w.Namespace)
	ca, err := identity.NewCA("cluster.local")
	if err != nil {
		return l, err
	}
	l.client = ca.Source(w.Namespace, "client", time.Hour)
	l.stop = append(l.stop, func() { l.client.Close() })
	for _, sa := range []string{"subject", "waypoint"} {
		if err := ca.WriteFiles(filepath.Join(l.dir, sa), w.Namespace, sa, time.Hour); err != nil {
			return l, err
		}
	}
	b, err := measure.StartBackend("-backend", filepath.Join(l.dir, "subject"))
	if err != nil {
		return l, err
	}
	l.stop = append(l.stop, b.End)
	id := filepath.Join(l.dir, "waypoint")
	_, here, _, _ := runtime.Caller(0)
	base, err := envoy.Load(filepath.Join(filepath.Dir(here), "..", "testdata", "base"))
	if err != nil {
		return l, err
	}
	boot, err := envoy.Stock(w.Resources(base), envoy.StockOptions{Dir: id, Address: "127.0.0.1", GenerateID: true})
	if err != nil {
		return l, err
	}
	e, err := envoy.Start(ctx, boot, id)
	if err != nil {
		return l, err
	}
	l.stop = append(l.stop, e.Close)
	l.envoy = &proxy{measure.PID(e.Pid), "envoy", e.Addr}
	conf := filepath.Join(l.dir, "config")
	if err := os.Mkdir(conf, 0o755); err != nil {
		return l, err
	}
	if err := os.WriteFile(filepath.Join(conf, "world.yaml"), w.Manifests("BASE"), 0o644); err != nil {
		return l, err
	}
	p, err := measure.StartWaypoint(*binary, conf, id, []string{"GOMAXPROCS=1"})
	if err != nil {
		return l, err
	}
	l.stop = append(l.stop, p.End)
	l.waypoint = &proxy{p.PID, "waypoint", p.HBONE}
	return l, nil
}

func (l *lab) close() {
	for _, f := range l.stop {
		defer f() // last first
	}
}
