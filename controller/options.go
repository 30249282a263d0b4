package controller

import (
	"cmp"
	"fmt"
	"log/slog"
	"net"
	"time"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/controller/provision"
)

// Options of a controller. Core, Dynamic, Namespace and Identity are required.
type Options struct {
	Core    kubernetes.Interface
	Dynamic dynamic.Interface

	Namespace string // where it runs, and keeps its Lease and its Secret
	Identity  string // of this replica, for the Lease: the pod's name
	Service   string // name of the Service in front of it; empty: waypoint-controller

	FeedAddr    string // where waypoints connect; empty: :15012
	MetricsAddr string // metrics and health; empty: :15014
	DebugAddr   string // profiles, loopback only; empty: off

	// Cert, Key and Roots name mounted PEM files of the server certificate; empty: a
	// CA of its own in the Secret CASecret.
	Cert, Key, Roots string
	CASecret         string // empty: waypoint-controller-ca

	// ClientRoots names a PEM file, followed: the mesh's roots. A waypoint whose
	// certificate they verify needs no token. Empty: only tokens count.
	ClientRoots string

	Audience string // of the waypoints' tokens; empty: waypoint-controller
	Mesh     config.Mesh

	// Provision says what waypoints are made like. Controller, Audience and Mesh are
	// filled in. Without an image no waypoint is made: others run them.
	Provision provision.Settings

	StatusPerSecond float32 // status writes; 0: 20

	// Lease times; 0: 15 s, 10 s and 2 s, those of Kubernetes' own controllers.
	LeaseDuration, RenewDeadline, RetryPeriod time.Duration

	Log *slog.Logger

	listening func(feed, metrics net.Addr) // for tests
}

func (o *Options) fill() error {
	if o.Core == nil || o.Dynamic == nil || o.Namespace == "" || o.Identity == "" {
		return fmt.Errorf("controller: clients, a namespace and an identity are required")
	}
	o.Service = cmp.Or(o.Service, "waypoint-controller")
	o.FeedAddr = cmp.Or(o.FeedAddr, ":15012")
	o.MetricsAddr = cmp.Or(o.MetricsAddr, ":15014")
	o.CASecret = cmp.Or(o.CASecret, "waypoint-controller-ca")
	o.Audience = cmp.Or(o.Audience, "waypoint-controller")
	o.LeaseDuration = cmp.Or(o.LeaseDuration, 15*time.Second)
	o.RenewDeadline = cmp.Or(o.RenewDeadline, 10*time.Second)
	o.RetryPeriod = cmp.Or(o.RetryPeriod, 2*time.Second)
	m := &o.Mesh
	m.TrustDomain = cmp.Or(m.TrustDomain, "cluster.local")
	m.RootNamespace = cmp.Or(m.RootNamespace, "istio-system")
	m.Domain = cmp.Or(m.Domain, "cluster.local")
	m.ClusterID = cmp.Or(m.ClusterID, "Kubernetes")
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if n := 0; (o.Cert != "") || (o.Key != "") || (o.Roots != "") {
		for _, f := range []string{o.Cert, o.Key, o.Roots} {
			if f != "" {
				n++
			}
		}
		if n != 3 {
			return fmt.Errorf("controller: certificate, key and roots are given together")
		}
	}
	if err := loopback(o.DebugAddr); err != nil {
		return err
	}
	p := &o.Provision
	p.ControllerName = cmp.Or(p.ControllerName, provision.ControllerName)
	p.Controller = cmp.Or(p.Controller, net.JoinHostPort(o.Service+"."+o.Namespace+".svc", portOf(o.FeedAddr)))
	p.Audience = o.Audience
	p.Mesh = provision.Mesh{
		TrustDomain: m.TrustDomain, TrustAliases: m.TrustAliases, RootNamespace: m.RootNamespace,
		Domain: m.Domain, ClusterID: m.ClusterID, Network: m.Network,
	}
	if p.Image == "" {
		return nil
	}
	return p.Check()
}

// loopback refuses an address that others could reach.
func loopback(addr string) error {
	if addr == "" {
		return nil
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("controller: debug address: %w", err)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("controller: profiles are served on loopback only, not on %s", addr)
	}
	return nil
}

func portOf(addr string) string {
	if _, port, err := net.SplitHostPort(addr); err == nil {
		return port
	}
	return addr
}

// names are those by which waypoints may call the controller.
func (o *Options) names() []string {
	n := o.Service + "." + o.Namespace
	return []string{n + ".svc", n + ".svc." + o.Mesh.Domain, n, o.Service}
}
