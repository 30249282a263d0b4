package hbone

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"waypoint.dev/waypoint/identity"
)

// gateway ends outer tunnels and passes what is in them to the server behind it,
// as the gateway of another network does.
func gateway(behind netip.AddrPort, status int, seen chan<- *Tunnel) handlerFunc {
	return func(t *Tunnel) {
		if status != statusOK {
			_ = t.Refuse(status)
			return
		}
		up, err := DialPlain(context.Background(), behind)
		if err != nil {
			_ = t.Refuse(503)
			return
		}
		defer up.Close()
		if t.Accept() != nil {
			return
		}
		select {
		case seen <- t:
		default:
		}
		go func() {
			if _, err := io.Copy(up, t); err != nil {
				up.Reset()
				return
			}
			_ = up.CloseWrite()
		}()
		_, _ = io.Copy(t, up)
		_ = t.CloseWrite()
	}
}

func TestDouble(t *testing.T) {
	m := newMesh(t)
	inner, outer := make(chan [3]string, 8), make(chan *Tunnel, 8)
	_, behind := m.serve(t, ServerConfig{}, handlerFunc(func(tun *Tunnel) {
		inner <- [3]string{tun.Authority(), tun.Header("x-forwarded-network"), tun.Header("x-istio-source")}
		echo(tun)
	}))
	gw := m.ca.Source("istio-system", "eastwest", time.Hour)
	defer gw.Close()
	front := make(chan [3]string, 8)
	pass := gateway(behind, 200, outer)
	_, addr := m.serve(t, ServerConfig{TLS: gw}, handlerFunc(func(tun *Tunnel) {
		front <- [3]string{tun.Authority(), tun.Header("x-forwarded-network"), tun.Header("x-istio-source")}
		pass(tun)
	}))
	p := m.pool(t, PoolConfig{Network: "net-1"})
	const authority = "cart.shop.svc.cluster.local:80"
	var open []*Double
	for range 3 {
		d, err := p.DialDouble(ctxT(t), Target{Addr: addr, Authority: authority})
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, d)
		roundTrip(t, d, "through two tunnels")
		if got, want := <-front, [3]string{authority, "", "waypoint"}; got != want {
			t.Errorf("outer CONNECT %q, want %q", got, want)
		}
		if got, want := <-inner, [3]string{authority, "net-1", ""}; got != want {
			t.Errorf("inner CONNECT %q, want %q", got, want)
		}
		if d.Peer().URI != serverURI {
			t.Errorf("peer %s is not the one behind the gateway", d.Peer().URI)
		}
	}
	if st := p.Stats(); st.Conns != 1 || st.Tunnels != 3 {
		t.Errorf("outer connections are not shared: %+v", st)
	}
	// Half close passes both tunnels, and the end takes all of it along.
	if err := open[0].CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(open[0]); err != nil || len(b) != 0 {
		t.Errorf("after the half close: %q, %v", b, err)
	}
	_ = open[0].Close()
	open[1].Reset()
	_ = open[1].Close()
	_ = open[2].Close()
	eventually(t, "outer tunnels end", func() bool { return p.Stats().Tunnels == 0 })
}

func TestDoubleFails(t *testing.T) {
	m, other := newMesh(t), newMesh(t)
	_, good := m.serve(t, ServerConfig{}, echo)
	_, foreign := m.serve(t, ServerConfig{TLS: other.server}, echo)
	_, hang := m.serve(t, ServerConfig{}, handlerFunc(func(tun *Tunnel) { _, _ = io.Copy(io.Discard, tun) }))
	_, refuses := m.serve(t, ServerConfig{}, handlerFunc(func(tun *Tunnel) { _ = tun.Refuse(401) }))
	mute, muteAddr := listen(t)
	defer mute.Close()
	for _, tt := range []struct {
		name   string
		status int // of the gateway
		behind netip.AddrPort
		revoke bool
		stage  Stage
		text   string
	}{
		{"gateway refuses", 503, good, false, StageConnect, "503"},
		{"nothing behind the gateway", 200, netip.MustParseAddrPort("127.0.0.1:1"), false, StageConnect, "503"},
		{"another mesh behind the gateway", 200, foreign, false, StageIdentity, "unknown authority"},
		{"no TLS behind the gateway", 200, muteAddr, false, StageTimeout, "during tls"},
		{"inner refuses", 200, refuses, false, StageConnect, "401"},
		{"inner does not answer", 200, hang, false, StageTimeout, "during connect"},
		{"gateway's certificate is revoked", 200, good, true, StageIdentity, "revoked"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			gw := m.ca.Source("istio-system", "eastwest", time.Hour)
			defer gw.Close()
			_, addr := m.serve(t, ServerConfig{TLS: gw}, gateway(tt.behind, tt.status, nil))
			cfg := PoolConfig{ConnectTimeout: 300 * time.Millisecond}
			if tt.stage != StageTimeout {
				cfg.ConnectTimeout = 10 * time.Second
			}
			if tt.revoke {
				cfg.Revoked = revoked(gw)
			}
			p := m.pool(t, cfg)
			d, err := p.DialDouble(ctxT(t), Target{Addr: addr, Authority: "cart:80"})
			if d != nil || stageOf(t, err).Stage != tt.stage || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("%v, want %v %q", err, tt.stage, tt.text)
			}
			eventually(t, "nothing is left", func() bool { return p.Stats().Tunnels == 0 })
		})
	}
	t.Run("given up", func(t *testing.T) {
		_, addr := m.serve(t, ServerConfig{}, gateway(hang, 200, nil))
		p := m.pool(t, PoolConfig{})
		ctx, cancel := context.WithCancel(context.Background())
		time.AfterFunc(50*time.Millisecond, cancel)
		if _, err := p.DialDouble(ctx, Target{Addr: addr, Authority: "cart:80"}); stageOf(t, err).Stage != StageCanceled || !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		eventually(t, "nothing is left", func() bool { return p.Stats().Tunnels == 0 })
	})
}

func revoked(src identity.Source) func(*x509.Certificate) bool {
	return func(c *x509.Certificate) bool { return c.Equal(src.SVID().Certificate.Leaf) }
}

// A gateway that goes away drains what is inside of its tunnels, which go on until
// their users leave them.
func TestDoubleDrainsWithItsGateway(t *testing.T) {
	m := newMesh(t)
	_, behind := m.serve(t, ServerConfig{}, echo)
	gw := m.ca.Source("istio-system", "eastwest", time.Hour)
	defer gw.Close()
	front, addr := m.serve(t, ServerConfig{TLS: gw, DrainDelay: -1}, gateway(behind, 200, nil))
	p := m.pool(t, PoolConfig{})
	d, err := p.DialDouble(ctxT(t), Target{Addr: addr, Authority: "cart.shop.svc.cluster.local:80"})
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-d.Draining():
		t.Error("drains by itself")
	default:
	}
	drained := make(chan error, 1)
	go func() { drained <- front.Shutdown(ctxT(t)) }()
	<-d.Draining()
	roundTrip(t, d, "still open")
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if err := <-drained; err != nil {
		t.Errorf("the gateway waits: %v", err)
	}
}
