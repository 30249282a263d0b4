package main

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	netrbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"waypoint.dev/waypoint/config/istiod"
	"waypoint.dev/waypoint/internal/testmesh"
)

// TestProxyRevokesOpenStreams denies everybody while a TCP tunnel is open: it
// ends, and no new one begins.
func TestProxyRevokesOpenStreams(t *testing.T) {
	const pod = "127.0.7.51"
	pods["10.244.2.51"] = pod
	r := prepareMesh(t, "01-basic", time.Hour)
	ln, err := net.Listen("tcp", pod+":5432")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { io.Copy(c, c); c.Close() }()
		}
	}()
	node, err := testmesh.NewNode(netip.MustParseAddr(pod), r.source("shop", "db"), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { node.Close() })
	r.startProxy()
	db := r.capture("10.96.1.6:5432")

	c, err := net.Dial("tcp", db.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	echo := func(s string) error {
		c.SetDeadline(time.Now().Add(5 * time.Second))
		if _, err := io.WriteString(c, s); err != nil {
			return err
		}
		_, err := io.ReadFull(c, make([]byte, len(s)))
		return err
	}
	if err := echo("hello"); err != nil {
		t.Fatalf("before: %v", err)
	}
	deny, err := anypb.New(&netrbacv3.RBAC{StatPrefix: "tcp.", Rules: &rbacv3.RBAC{Action: rbacv3.RBAC_DENY, Policies: map[string]*rbacv3.Policy{
		"ns[shop]-policy[none]-rule[0]": {
			Permissions: []*rbacv3.Permission{{Rule: &rbacv3.Permission_Any{Any: true}}},
			Principals:  []*rbacv3.Principal{{Identifier: &rbacv3.Principal_Any{Any: true}}},
		}}}})
	if err != nil {
		t.Fatal(err)
	}
	edit(r, istiod.ListenerType, "main_internal", &listenerv3.Listener{}, func(l *listenerv3.Listener) {
		for _, fc := range l.FilterChains {
			if fc.Name == "inbound-vip|5432|tcp|db.shop.svc.cluster.local" {
				f := &listenerv3.Filter{Name: "envoy.filters.network.rbac", ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: deny}}
				last := len(fc.Filters) - 1
				fc.Filters = append(fc.Filters[:last:last], f, fc.Filters[last])
			}
		}
	})
	c.SetDeadline(time.Now().Add(5 * time.Second))
	if n, err := c.Read(make([]byte, 1)); err == nil || n > 0 || errors.Is(err, errTimeout(err)) {
		t.Errorf("the open stream goes on after the policy: %d bytes, %v", n, err)
	}
	fresh, err := net.Dial("tcp", db.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer fresh.Close()
	fresh.SetDeadline(time.Now().Add(5 * time.Second))
	io.WriteString(fresh, "hello")
	if n, err := fresh.Read(make([]byte, 1)); err == nil || errors.Is(err, errTimeout(err)) {
		t.Errorf("a new stream is served: %d bytes, %v", n, err)
	}
}

// errTimeout is err if it is a timeout: nothing was closed then.
func errTimeout(err error) error {
	var ne net.Error
	if errors.As(err, &ne) && ne.Timeout() {
		return err
	}
	return errors.ErrUnsupported
}
