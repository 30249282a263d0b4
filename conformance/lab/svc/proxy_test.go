package svc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"waypoint.dev/waypoint/conformance/lab/cluster/clustertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pair are the ends of a connection of this machine.
func pair(t *testing.T) (client, server *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := net.Dial("tcp4", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(10 * time.Second))
	t.Cleanup(func() { c.Close(); s.Close() })
	return c.(*net.TCPConn), s.(*net.TCPConn)
}

// echo answers what it has read when its peer has said everything.
func echo(t *testing.T) netip.AddrPort {
	t.Helper()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			b, _ := io.ReadAll(c)
			c.Write(append([]byte("heard "), b...))
			c.Close()
		}
	}()
	t.Cleanup(func() { ln.Close(); <-done })
	return netip.MustParseAddrPort(ln.Addr().String())
}

func TestPass(t *testing.T) {
	up := echo(t)
	down := netip.AddrPortFrom(up.Addr(), 1) // nobody listens at port 1
	slice := func(name string, to netip.AddrPort) string {
		return fmt.Sprintf(`{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":{"name":%[1]q,"namespace":"shop","labels":{"kubernetes.io/service-name":%[1]q}},"addressType":"IPv4","ports":[{"name":"http","port":%[2]d}],"endpoints":[{"addresses":[%[3]q]}]}`, name, to.Port(), to.Addr())
	}
	service := func(name, ip string) string {
		return fmt.Sprintf(`{"apiVersion":"v1","kind":"Service","metadata":{"name":%q,"namespace":"shop"},"spec":{"clusterIP":%[2]q,"clusterIPs":[%[2]q],"ports":[{"name":"http","port":80}]}}`, name, ip)
	}
	p := &Proxy{view: clustertest.New(t, slices.Concat(clustertest.Shop, []string{
		service("up", "10.96.2.1"), slice("up", up), service("down", "10.96.2.2"), slice("down", down),
	})...)}
	p.ctx, p.cancel = context.WithCancel(t.Context())
	defer p.cancel()
	for _, tc := range []struct {
		name, to string
		serves   bool
	}{
		{"a Service", "10.96.2.1:80", true},
		{"another port of it", "10.96.2.1:81", false},
		{"a Service without endpoints", "10.96.0.11:80", false},
		{"an endpoint that is down", "10.96.2.2:80", false},
		{"nobody's address", "10.96.9.9:80", false},
	} {
		client, server := pair(t)
		done := make(chan struct{})
		go func() { defer close(done); p.pass(server, netip.MustParseAddrPort(tc.to)); server.Close() }()
		_, werr := client.Write([]byte("hello"))
		client.CloseWrite()
		got, err := io.ReadAll(client)
		<-done
		if tc.serves {
			if string(got) != "heard hello" || err != nil || werr != nil {
				t.Errorf("%s: %q %v %v", tc.name, got, err, werr)
			}
			continue
		}
		if !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s: %q %v, not reset", tc.name, got, err)
		}
	}
}

// A proxy that ends takes its connections with it.
func TestPassEnds(t *testing.T) {
	p := &Proxy{view: clustertest.New(t)}
	p.ctx, p.cancel = context.WithCancel(t.Context())
	p.cancel()
	client, server := pair(t)
	p.pass(server, netip.MustParseAddrPort("10.96.2.1:80"))
	server.Close()
	if _, err := io.ReadAll(client); err == nil {
		t.Error("it goes on")
	}
}
