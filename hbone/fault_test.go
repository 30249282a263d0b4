package hbone

import (
	"context"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// hole is a connection that can stop carrying bytes without an error, as one
// does whose peer lost power.
type hole struct {
	net.Conn
	deaf atomic.Bool
}

func (h *hole) Write(p []byte) (int, error) {
	if h.deaf.Load() {
		return len(p), nil
	}
	return h.Conn.Write(p)
}

func TestDeadConnection(t *testing.T) {
	m := newMesh(t)
	_, addr := m.serve(t, ServerConfig{}, echo)
	var mu sync.Mutex
	var conns []*hole
	p := m.pool(t, PoolConfig{
		ProbeAfter: 50 * time.Millisecond, ProbeTimeout: time.Second, // the latter is for the new connection, too
		DialTCP: func(ctx context.Context, a netip.AddrPort) (net.Conn, error) {
			nc, err := dialTCP(ctx, a)
			if err != nil {
				return nil, err
			}
			h := &hole{Conn: nc}
			mu.Lock()
			conns = append(conns, h)
			mu.Unlock()
			return h, nil
		},
	})
	old := mustDial(t, p, target(addr))
	conns[0].deaf.Store(true)
	var wg sync.WaitGroup
	for range 5 { // all of them land on the dead one first
		wg.Go(func() { roundTripOnce(t, p, target(addr)) })
	}
	wg.Wait()
	if st := p.Stats(); st.Dead != 1 || st.Retries != 5 {
		t.Errorf("%+v", st)
	}
	<-old.Draining()
	roundTripOnce(t, p, target(addr))
	old.Close()
	eventually(t, "the dead connection is closed with its last tunnel", func() bool { return p.Stats().Conns == 1 })
}

// A peer that is gone costs a dial the time to find that out, twice, and not all the
// time it has, which is for another endpoint.
func TestDeadPeer(t *testing.T) {
	m := newMesh(t)
	_, addr := m.serve(t, ServerConfig{}, echo)
	var first *hole
	p := m.pool(t, PoolConfig{
		ProbeAfter: 50 * time.Millisecond, ProbeTimeout: 100 * time.Millisecond,
		DialTCP: func(ctx context.Context, a netip.AddrPort) (net.Conn, error) {
			if first != nil {
				return swallow(ctx, a)
			}
			nc, err := dialTCP(ctx, a)
			first = &hole{Conn: nc}
			return first, err
		},
	})
	defer mustDial(t, p, target(addr)).Close()
	first.deaf.Store(true)
	start := time.Now()
	_, err := p.Dial(ctxT(t), target(addr), nil)
	if d := time.Since(start); stageOf(t, err).Stage != StageTimeout || d < 250*time.Millisecond || d > 20*time.Second {
		t.Errorf("%v after %v", err, d)
	}
	if st := p.Stats(); st.Dead != 1 || st.Retries != 1 {
		t.Errorf("%+v", st)
	}
}

// A slow answer is no dead connection as long as PINGs are answered.
func TestSlowAnswerIsNotDead(t *testing.T) {
	m := newMesh(t)
	answer := make(chan struct{})
	_, addr := m.serve(t, ServerConfig{}, handlerFunc(func(tun *Tunnel) { <-answer; echo(tun) }))
	p := m.pool(t, PoolConfig{ProbeAfter: 10 * time.Millisecond})
	time.AfterFunc(100*time.Millisecond, func() { close(answer) })
	roundTripOnce(t, p, target(addr))
	if st := p.Stats(); st.Dead != 0 || st.Dials != 1 {
		t.Errorf("%+v", st)
	}
}

// script is a peer that plays HTTP/2 frames by hand on accepted connections.
func (m *mesh) script(t *testing.T, play func(n int, fr *http2.Framer, next func() http2.Frame)) netip.AddrPort {
	t.Helper()
	ln, addr := listen(t)
	var wg sync.WaitGroup
	wg.Go(func() {
		for n := 0; ; n++ {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer nc.Close()
				tc := tlsServer(nc, m.server)
				if tc.Handshake() != nil {
					return
				}
				if _, err := io.ReadFull(tc, make([]byte, len(http2.ClientPreface))); err != nil {
					return
				}
				fr := http2.NewFramer(tc, tc)
				_ = fr.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 200})
				play(n, fr, func() http2.Frame {
					for {
						f, err := fr.ReadFrame()
						if err != nil {
							return nil
						}
						switch f.(type) {
						case *http2.HeadersFrame, *http2.PingFrame, *http2.RSTStreamFrame, *http2.DataFrame:
							return f
						}
					}
				})
				for { // until the other side goes
					if _, err := fr.ReadFrame(); err != nil {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() { ln.Close(); wg.Wait() })
	return addr
}

// status200 is ":status: 200" of the static table (RFC 7541 appendix A).
var status200 = []byte{0x88}

func TestGoAwayDuringDial(t *testing.T) {
	m := newMesh(t)
	addr := m.script(t, func(n int, fr *http2.Framer, next func() http2.Frame) {
		f, ok := next().(*http2.HeadersFrame)
		if !ok {
			return
		}
		if n == 0 { // a peer that drains does not take the stream
			_ = fr.WriteGoAway(0, http2.ErrCodeNo, nil)
			return
		}
		_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: f.StreamID, BlockFragment: status200, EndHeaders: true})
	})
	p := m.pool(t, PoolConfig{})
	tun := mustDial(t, p, target(addr))
	defer tun.Close()
	if st := p.Stats(); st.Dials != 2 || st.Retries != 1 {
		t.Errorf("%+v", st)
	}
}

func TestRefusedStreamIsRetried(t *testing.T) {
	m := newMesh(t)
	var asked atomic.Int32
	addr := m.script(t, func(_ int, fr *http2.Framer, next func() http2.Frame) {
		for {
			switch f := next().(type) {
			case nil:
				return
			case *http2.HeadersFrame:
				if asked.Add(1) == 1 {
					_ = fr.WriteRSTStream(f.StreamID, http2.ErrCodeRefusedStream)
				} else {
					_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: f.StreamID, BlockFragment: status200, EndHeaders: true})
				}
			}
		}
	})
	defer mustDial(t, m.pool(t, PoolConfig{}), target(addr)).Close()
	if asked.Load() != 2 {
		t.Errorf("asked %d times", asked.Load())
	}
}

// Other resets are the destination's answer: no second try.
func TestResetConnectFails(t *testing.T) {
	m := newMesh(t)
	var asked atomic.Int32
	addr := m.script(t, func(_ int, fr *http2.Framer, next func() http2.Frame) {
		if f, ok := next().(*http2.HeadersFrame); ok {
			asked.Add(1)
			_ = fr.WriteRSTStream(f.StreamID, http2.ErrCodeConnect)
		}
	})
	_, err := m.pool(t, PoolConfig{}).Dial(ctxT(t), target(addr), nil)
	if de := stageOf(t, err); de.Stage != StageConnect || de.Status != 0 || asked.Load() != 1 {
		t.Errorf("%v after %d tries", err, asked.Load())
	}
}

// A kept connection that has died meanwhile is not the caller's problem.
func TestStaleConnectionIsReplaced(t *testing.T) {
	m := newMesh(t)
	addr := m.script(t, func(n int, fr *http2.Framer, next func() http2.Frame) {
		for i := 0; ; i++ {
			f := next()
			h, ok := f.(*http2.HeadersFrame)
			if f == nil || n == 0 && ok && i > 0 {
				return
			}
			if ok {
				if n == 0 && h.StreamID > 1 {
					_ = fr.WriteGoAway(1<<31-1, http2.ErrCodeInternal, nil) // names the stream as taken
					return
				}
				_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: h.StreamID, BlockFragment: status200, EndHeaders: true})
			}
		}
	})
	p := m.pool(t, PoolConfig{ProbeAfter: 50 * time.Millisecond, ProbeTimeout: 50 * time.Millisecond})
	mustDial(t, p, target(addr)).Close()
	mustDial(t, p, target(addr)).Close()
	if st := p.Stats(); st.Dials != 2 {
		t.Errorf("%+v", st)
	}
}
