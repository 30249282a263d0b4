package envoy

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"sync"
	"time"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/config/kube"
	"waypoint.dev/waypoint/identity"
	"waypoint.dev/waypoint/internal/testmesh"
)

const certTTL = 24 * time.Hour

// Lab is a CA and the pods behind the sides under comparison.
type Lab struct {
	Dir string // of the waypoint's certificate, private

	ca    *identity.CA
	way   identity.Source
	pods  []*Pod
	tries *tries

	mu      sync.Mutex
	clients map[string]identity.Source // guarded by mu
}

// NewLab makes a lab whose waypoints live in namespace ns. dir must exist.
func NewLab(dir, ns string) (*Lab, error) {
	ca, err := identity.NewCA("cluster.local")
	if err != nil {
		return nil, err
	}
	l := &Lab{Dir: dir, ca: ca, clients: map[string]identity.Source{}, tries: newTries()}
	if err := ca.WriteFiles(dir, ns, "waypoint", certTTL); err != nil {
		return nil, err
	}
	l.way = ca.Source(ns, "waypoint", certTTL)
	return l, nil
}

// Close ends the pods.
func (l *Lab) Close() {
	for _, p := range l.pods {
		p.Close()
	}
	for _, s := range l.clients {
		s.Close()
	}
	l.way.Close()
}

// AddPod starts a backend.
func (l *Lab) AddPod(name, ns, account, addr string, plain ...uint16) error {
	a, err := netip.ParseAddr(addr)
	if err != nil {
		return err
	}
	p, err := NewPod(name, a, l.source(ns, account), plain...)
	if err == nil {
		p.tries = l.tries
		l.pods = append(l.pods, p)
	}
	return err
}

// source is the identity of an account.
func (l *Lab) source(ns, sa string) identity.Source {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := ns + "/" + sa
	if l.clients[k] == nil {
		l.clients[k] = l.ca.Source(ns, sa, certTTL)
	}
	return l.clients[k]
}

// AddWorld starts the pods of a generated world.
func (l *Lab) AddWorld(w *World) error {
	for _, b := range w.Backends {
		if err := l.AddPod(b, w.Namespace, b, w.podOf(b)); err != nil {
			return err
		}
	}
	if len(w.Providers) > 0 {
		if err := l.AddPod("authorizer", w.Namespace, "authorizer", authorizerPod); err != nil {
			return err
		}
	}
	return l.AddPod("subject", w.Namespace, "subject", SubjectPod)
}

// Side is one proxy under comparison.
type Side struct {
	Name   string
	Asker  *Asker
	audits *audits // of a waypoint
	close  []func()
}

// Close ends its connections, then the proxy.
func (s *Side) Close() {
	s.Asker.Close()
	for _, f := range s.close {
		f()
	}
}

func (l *Lab) side(name string, addr netip.AddrPort, close ...func()) *Side {
	s := &Side{Name: name, close: close, Asker: NewAsker(name, addr, func(c Client) identity.Source { return l.source(c.Namespace, c.ServiceAccount) })}
	s.Asker.tries = l.tries
	return s
}

// Envoy starts the oracle with these resources.
func (l *Lab) Envoy(ctx context.Context, r *Resources) (*Side, error) {
	boot, err := Stock(r, StockOptions{Dir: l.Dir, Address: "127.0.0.1", GenerateID: true, Direct: true, AccessLog: filepath.Join(l.Dir, "access.log")})
	if err != nil {
		return nil, err
	}
	p, err := Start(ctx, boot, l.Dir)
	if err != nil {
		return nil, err
	}
	s := l.side("envoy", p.Addr, p.Close)
	s.Asker.direct = p.Direct
	return s, nil
}

// model starts the waypoint in this process with a model.
func (l *Lab) model(name string, m *config.Model) (*Side, error) {
	audits := newAudits()
	w, err := testmesh.NewWaypoint(testmesh.WaypointOptions{Source: l.way, Observer: audits})
	if err != nil {
		return nil, err
	}
	for _, p := range w.Serve(m) {
		missing := p.Reason == "BackendNotFound" || p.Field == "refs" // a backend that is so on purpose
		if p.Severity == config.Error && !missing {
			err = errors.Join(err, fmt.Errorf("%s: %s %s/%s: %s: %s", name, p.Kind, p.Namespace, p.Name, p.Field, p.Message))
		}
	}
	if err != nil {
		w.Close()
		return nil, err
	}
	s := l.side(name, w.Addr, w.Close)
	s.audits = audits
	return s, nil
}

// Kube starts the waypoint with the manifests of a world, of one normalization.
func (l *Lab) Kube(w *World, norm string) (*Side, error) {
	m, err := kubeModel(w, norm)
	if err != nil {
		return nil, err
	}
	return l.model("kube", m)
}

// kubeModel is what config/kube makes of the manifests of a world.
func kubeModel(w *World, norm string) (*config.Model, error) {
	objs := kube.NewObjects()
	parsed, err := kube.Parse("world.json", w.Manifests(norm))
	if err != nil {
		return nil, err
	}
	for _, o := range parsed {
		objs.Put(o)
	}
	n, ok := normOf(norm)
	if !ok {
		return nil, fmt.Errorf("no normalization %q", norm)
	}
	return kube.NewBuilder(kubeOptions(w, n)).Build(objs), nil
}

func kubeOptions(w *World, norm int) kube.Options {
	return kube.Options{
		Waypoint: config.Owner{Namespace: w.Namespace, Name: "waypoint", Class: "istio-waypoint"},
		Mesh:     config.Mesh{Normalization: config.Normalization(norm), RootNamespace: "istio-system", Domain: "cluster.local", TrustDomain: "cluster.local"},
	}
}
