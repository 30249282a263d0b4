package h2

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
)

// TestFloods repeats cheap frames until the connection ends with
// ENHANCE_YOUR_CALM, which must come soon enough.
func TestFloods(t *testing.T) {
	tests := []struct {
		name  string
		limit int
		setup func(p *peer)
		send  func(p *peer, i int)
	}{
		{"settings", glitchBurst + 10, nil, func(p *peer, _ int) { p.fr.WriteSettings() }},
		{"ping", glitchBurst + 10, nil, func(p *peer, _ int) { p.fr.WritePing(false, [8]byte{}) }},
		{"empty data", glitchBurst + 10, func(p *peer) { p.accept(1, false, postHead...) },
			func(p *peer, _ int) { p.fr.WriteData(1, false, nil) }},
		{"unknown", glitchBurst + 10, nil, func(p *peer, _ int) { p.fr.WriteRawFrame(0xfe, 0, 0, nil) }},
		{"priority", 2*priorityPerStream + 10, nil, func(p *peer, _ int) { p.fr.WritePriority(1, http2.PriorityParam{}) }},
		{"window update", 100, func(p *peer) { p.accept(1, false, postHead...) },
			func(p *peer, _ int) { p.fr.WriteWindowUpdate(1, 1) }},
		{"rapid reset", glitchBurst + 10, nil, func(p *peer, i int) {
			p.headers(uint32(2*i+1), true, getHead...)
			p.fr.WriteRSTStream(uint32(2*i+1), http2.ErrCodeCancel)
		}},
		{"made resets", glitchBurst + 10, nil, func(p *peer, i int) {
			p.headers(uint32(2*i+1), false, postHead...)
			p.fr.WriteWindowUpdate(uint32(2*i+1), 0)
		}},
		{"refused", glitchBurst + 210, nil, func(p *peer, i int) { p.headers(uint32(2*i+1), false, postHead...) }},
		{"malformed", glitchBurst + 10, nil, func(p *peer, i int) { p.headers(uint32(2*i+1), true, ":method", "GET") }},
		{"too large", glitchBurst + 10, nil, func(p *peer, i int) {
			p.headers(uint32(2*i+1), true, append(append([]string{}, getHead...), "a", strings.Repeat("a", 2000))...)
		}},
		{"continuation", 100, func(p *peer) { p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x82}}) },
			func(p *peer, _ int) { p.fr.WriteContinuation(1, false, []byte{0x84}) }},
		{"continuation bytes", 10, func(p *peer) { p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x82}}) },
			func(p *peer, _ int) { p.fr.WriteContinuation(1, false, make([]byte, 1000)) }},
	}
	for _, tt := range tests {
		t.Run(strings.ReplaceAll(tt.name, " ", "_"), func(t *testing.T) {
			cfg := quiet()
			cfg.MaxHeaderListSize = 1000
			script(t, true, cfg, func(p *peer) {
				p.greet()
				if tt.setup != nil {
					tt.setup(p)
				}
				over := make(chan struct{})
				go func() { // what the server answers must be read, or it ends for that
					defer close(over)
					for sent := 0; sent < tt.limit; sent++ {
						tt.send(p, sent)
						if sent%64 == 0 {
							time.Sleep(time.Millisecond)
						}
					}
				}()
				p.wantGoAway(http2.ErrCodeEnhanceYourCalm)
				p.nc.Close()
				<-over
				var ce *ConnError
				if err := <-p.ret; !errors.As(err, &ce) || ce.Code != http2.ErrCodeEnhanceYourCalm {
					t.Errorf("Serve: %v", err)
				}
			})
		})
	}
}

// TestUnreadAnswers bounds the answers that wait for a peer that does not read.
func TestUnreadAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runScript(t, true, quiet(), 4<<10, func(p *peer) {
			p.greet()
			p.accept(1, false, postHead...)
			go func() {
				for range 3000 {
					p.fr.WriteData(1, false, []byte("x")) // so that PING is no glitch
					p.fr.WritePing(false, [8]byte{})
				}
			}()
			var ce *ConnError
			if err := <-p.ret; !errors.As(err, &ce) || ce.Code != http2.ErrCodeEnhanceYourCalm {
				t.Errorf("Serve: %v", err)
			}
		})
	})
}

// TestPatience does not punish what busy and honest peers do.
func TestPatience(t *testing.T) {
	script(t, true, quiet(), func(p *peer) {
		p.greet()
		s := p.accept(1, false, postHead...)
		go func() {
			b := make([]byte, 100)
			for {
				if _, err := s.Read(b); err != nil {
					return
				}
			}
		}()
		for range 5000 { // PING with every DATA, to measure bandwidth
			p.fr.WriteData(1, false, []byte("x"))
			p.fr.WritePing(false, [8]byte{})
			skipTo[*http2.PingFrame](p)
		}
		for i := range 5000 { // cancelled after the head of the answer
			id := uint32(3 + 2*i)
			s := p.accept(id, true, getHead...)
			s.WriteHead(&Head{Status: 200}, 0)
			p.wantHead(id)
			p.fr.WriteRSTStream(id, http2.ErrCodeCancel)
			if i%150 == 149 {
				p.c.mu.Lock()
				p.c.handlers = 0 // ours wait in p.hold
				p.c.mu.Unlock()
			}
		}
		p.fr.WriteData(1, true, nil)
	})
}

// TestTooManyStreams refuses streams above the limit, and handlers that outlive
// their streams count too.
func TestTooManyStreams(t *testing.T) {
	cfg := quiet()
	cfg.MaxConcurrentStreams = 2
	script(t, true, cfg, func(p *peer) {
		p.greet()
		p.accept(1, false, postHead...)
		p.accept(3, false, postHead...)
		p.headers(5, false, postHead...)
		p.wantReset(5, http2.ErrCodeRefusedStream)
		p.fr.WriteRSTStream(1, http2.ErrCodeCancel)
		p.fr.WriteRSTStream(3, http2.ErrCodeCancel)
		p.accept(7, false, postHead...)
		p.accept(9, false, postHead...)
		p.fr.WriteRSTStream(7, http2.ErrCodeCancel)
		p.headers(11, false, postHead...)
		p.wantReset(11, http2.ErrCodeRefusedStream)
	})
}

// TestHeadTooLarge answers 431, and the connection goes on in step.
func TestHeadTooLarge(t *testing.T) {
	cfg := quiet()
	cfg.MaxHeaderListSize = 1000
	script(t, true, cfg, func(p *peer) {
		p.greet()
		big := strings.Repeat("x", 500)
		p.headers(1, true, append(append([]string{}, getHead...), "a", big, "b", big, "c", "d")...)
		if got := p.wantHead(1); got != ":status=431 content-length=0 END" {
			t.Errorf("got %s", got)
		}
		s := p.accept(3, true, append(append([]string{}, getHead...), "c", "d")...) // from the table
		if f := s.Head().Fields; len(f) != 1 || f[0].Name != "c" || f[0].Value != "d" {
			t.Errorf("fields %v", f)
		}
		p.headers(5, false, append(append([]string{}, postHead...), "a", big, "b", big)...)
		p.wantHead(5)
		p.wantReset(5, http2.ErrCodeNo)
	})
}
