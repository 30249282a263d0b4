package hbone

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"waypoint.dev/waypoint/identity"
)

func stageOf(t testing.TB, err error) *DialError {
	t.Helper()
	var de *DialError
	if !errors.As(err, &de) {
		t.Fatalf("%v is no *DialError", err)
	}
	return de
}

func TestDialStages(t *testing.T) {
	m := newMesh(t)
	other := newMesh(t)
	_, addr := m.serve(t, ServerConfig{}, echo)
	_, hang := m.serve(t, ServerConfig{}, handlerFunc(func(tun *Tunnel) { // never answers
		_, _ = io.Copy(io.Discard, tun)
	}))
	closed, closedAddr := listen(t)
	closed.Close()
	mute, muteAddr := listen(t) // TCP, no TLS
	defer mute.Close()
	for _, tt := range []struct {
		name  string
		cfg   PoolConfig // a timeout leaves room for the stages before the one that hangs
		to    Target
		stage Stage
		text  string
	}{
		{"nobody listens", PoolConfig{}, target(closedAddr), StageTCP, "refused"},
		{"no TCP", PoolConfig{ConnectTimeout: 50 * time.Millisecond, DialTCP: swallow}, target(closedAddr), StageTimeout, "during tcp"},
		{"no handshake", PoolConfig{ConnectTimeout: 200 * time.Millisecond}, target(muteAddr), StageTimeout, "during tls"},
		{"another identity", PoolConfig{}, Target{Addr: addr, Authority: "a:1", Identity: "spiffe://td/ns/a/sa/b"}, StageIdentity, "want"},
		{"foreign root", PoolConfig{TLS: other.client}, target(addr), StageIdentity, "unknown authority"},
		{"no answer", PoolConfig{ConnectTimeout: 2 * time.Second}, target(hang), StageTimeout, "during connect"},
		{"our certificate is not taken", PoolConfig{TLS: &mixed{SourceOf: other.client, roots: m.client}}, target(addr), StageTLS, "certificate"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := m.pool(t, tt.cfg)
			tun, err := p.Dial(ctxT(t), tt.to, nil)
			if tun != nil || stageOf(t, err).Stage != tt.stage || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("%v, want %v %q", err, tt.stage, tt.text)
			}
			if st := p.Stats(); st.Tunnels != 0 || st.Waiting != 0 {
				t.Errorf("left behind: %+v", st)
			}
		})
	}
	t.Run("given up", func(t *testing.T) {
		p := m.pool(t, PoolConfig{})
		ctx, cancel := context.WithCancel(context.Background())
		time.AfterFunc(20*time.Millisecond, cancel)
		_, err := p.Dial(ctx, target(hang), nil)
		if de := stageOf(t, err); de.Stage != StageCanceled || !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if st := p.Stats(); st.Tunnels != 0 {
			t.Errorf("left behind: %+v", st)
		}
	})
	t.Run("closed pool", func(t *testing.T) {
		p := m.pool(t, PoolConfig{})
		p.Close()
		if _, err := p.Dial(ctxT(t), target(addr), nil); !errors.Is(err, ErrPoolClosed) || stageOf(t, err).Stage != StagePool {
			t.Error(err)
		}
	})
}

// swallow is a network that swallows SYNs.
func swallow(ctx context.Context, _ netip.AddrPort) (net.Conn, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// mixed shows one source's certificate and trusts another's roots.
type mixed struct {
	SourceOf identity.Source
	roots    identity.Source
}

func (s *mixed) SVID() *identity.SVID     { return s.SourceOf.SVID() }
func (s *mixed) Bundle() *identity.Bundle { return s.roots.Bundle() }
func (s *mixed) Changed() <-chan struct{} { return s.roots.Changed() }
func (s *mixed) Close() error             { return nil }

func TestPoolsAreKeyedByIdentity(t *testing.T) {
	m := newMesh(t)
	_, addr := m.serve(t, ServerConfig{}, echo)
	p := m.pool(t, PoolConfig{})
	for _, id := range []string{"", serverURI, "", serverURI} {
		to := target(addr)
		to.Identity = id
		defer mustDial(t, p, to).Close()
	}
	if st := p.Stats(); st.Conns != 2 || st.Dials != 2 {
		t.Errorf("%+v", st)
	}
}

// One dial serves everyone who waits, and the giving up of one does not end it.
func TestSharedDial(t *testing.T) {
	m := newMesh(t)
	_, addr := m.serve(t, ServerConfig{}, echo)
	gate := make(chan struct{})
	p := m.pool(t, PoolConfig{DialTCP: func(ctx context.Context, a netip.AddrPort) (net.Conn, error) {
		<-gate
		return dialTCP(ctx, a)
	}})
	ctx, cancel := context.WithCancel(context.Background())
	first := make(chan error, 1)
	go func() { _, err := p.Dial(ctx, target(addr), nil); first <- err }()
	eventually(t, "the first waits", func() bool { return p.Stats().Waiting == 1 })
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() { roundTripOnce(t, p, target(addr)) })
	}
	eventually(t, "all wait", func() bool { return p.Stats().Waiting == 21 })
	cancel()
	if de := stageOf(t, <-first); de.Stage != StageCanceled {
		t.Error(de)
	}
	close(gate)
	wg.Wait()
	if st := p.Stats(); st.Dials != 1 || st.Conns != 1 || st.Tunnels != 0 {
		t.Errorf("%+v", st)
	}
}

func TestWaitersAreBounded(t *testing.T) {
	m := newMesh(t)
	p := m.pool(t, PoolConfig{MaxWaiting: 1, DialTCP: swallow})
	to := target(netip.MustParseAddrPort("127.0.0.1:1"))
	done := make(chan error, 1)
	go func() { _, err := p.Dial(ctxT(t), to, nil); done <- err }()
	eventually(t, "one waits", func() bool { return p.Stats().Waiting == 1 })
	if _, err := p.Dial(ctxT(t), to, nil); !errors.Is(err, ErrPoolFull) {
		t.Error(err)
	}
	p.Close()
	if err := <-done; !errors.Is(err, ErrPoolClosed) {
		t.Error(err)
	}
}

func TestEvict(t *testing.T) {
	m := newMesh(t)
	s, addr := m.serve(t, ServerConfig{}, echo)
	p := m.pool(t, PoolConfig{})
	old := mustDial(t, p, target(addr))
	p.Evict(addr)
	<-old.Draining()
	roundTrip(t, old, "finish in peace")
	fresh := mustDial(t, p, target(addr))
	if st := p.Stats(); st.Dials != 2 || st.Conns != 2 {
		t.Errorf("%+v", st)
	}
	old.Close()
	eventually(t, "the old connection ends", func() bool { return p.Stats().Conns == 1 })
	roundTrip(t, fresh, "x")
	fresh.Close()
	p.Evict(addr)
	eventually(t, "an idle one ends at once", func() bool { return p.Stats().Conns == 0 && s.Stats().Open == 0 })
}

func TestEvictFailsWaiters(t *testing.T) {
	m := newMesh(t)
	addr := netip.MustParseAddrPort("127.0.0.1:1")
	p := m.pool(t, PoolConfig{DialTCP: swallow})
	done := make(chan error, 1)
	go func() { _, err := p.Dial(ctxT(t), target(addr), nil); done <- err }()
	eventually(t, "one waits", func() bool { return p.Stats().Waiting == 1 })
	p.Evict(addr)
	if err := <-done; !errors.Is(err, ErrEvicted) {
		t.Error(err)
	}
}

func TestIdleRelease(t *testing.T) {
	m := newMesh(t)
	_, addr := m.serve(t, ServerConfig{}, echo)
	p := m.pool(t, PoolConfig{IdleTimeout: 20 * time.Millisecond})
	tun := mustDial(t, p, target(addr))
	time.Sleep(60 * time.Millisecond) // longer than the idle time: a tunnel holds it
	roundTrip(t, tun, "in use")
	tun.Close()
	eventually(t, "released", func() bool { return p.Stats().Conns == 0 })
	roundTripOnce(t, p, target(addr))
}

// Certificates and roots rotate under load; no tunnel fails, and at the end
// every connection stands on the new root.
func TestRotationLosesNothing(t *testing.T) {
	m := newMesh(t)
	s, addr := m.serve(t, ServerConfig{}, echo)
	p := m.pool(t, PoolConfig{})
	long := mustDial(t, p, target(addr))
	defer long.Close()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				tun, err := p.Dial(ctxT(t), target(addr), nil)
				if err != nil {
					t.Error(err)
					return
				}
				roundTrip(t, tun, "x")
				tun.Close()
			}
		})
	}
	for range 3 {
		opened := p.Stats().Opened
		if err := m.ca.RotateRoot(); err != nil {
			t.Error(err)
		}
		eventually(t, "tunnels during the overlap", func() bool { return p.Stats().Opened > opened+5 })
		select {
		case <-long.Draining():
		default:
			roundTrip(t, long, "before the old root goes")
		}
		m.ca.RetireRoots()
		roundTrip(t, long, "old tunnels run on")
		<-long.Draining()
		opened = p.Stats().Opened
		eventually(t, "tunnels after it", func() bool { return p.Stats().Opened > opened+5 })
	}
	close(stop)
	wg.Wait()
	roundTrip(t, long, "to the very end")
	long.Close()
	eventually(t, "only trusted connections", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		for c := range s.conns {
			if c.link.recheck(&s.verify, &s.own) != nil {
				return false
			}
		}
		return true
	})
}

func TestPlain(t *testing.T) {
	ln, addr := listen(t)
	defer ln.Close()
	done := make(chan error, 1)
	go func() {
		nc, err := ln.Accept()
		if err == nil {
			p := NewPlain(nc)
			_, err = p.WriteTo(p)
			_ = p.CloseWrite()
			_, _ = nc.Read(make([]byte, 1))
			p.Reset()
		}
		done <- err
	}()
	c, err := DialPlain(ctxT(t), addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	roundTrip(t, c, "plain")
	_ = c.CloseWrite()
	if _, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("after both half closes: %v", err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	ln.Close()
	if _, err := DialPlain(ctxT(t), addr); stageOf(t, err).Stage != StageTCP {
		t.Error(err)
	}
}

func TestDialErrorText(t *testing.T) {
	for want, err := range map[string]error{
		"hbone: dial: CONNECT refused with status 503": &DialError{Stage: StageConnect, Status: 503, Err: errRefused},
		"hbone: dial: identity: x":                     &DialError{Stage: StageIdentity, Err: errors.New("x")},
	} {
		if err.Error() != want {
			t.Errorf("%q, want %q", err, want)
		}
	}
	if s := fmt.Sprint(Stage(99)); s != "stage(99)" {
		t.Error(s)
	}
}
