package h2

import (
	"errors"
	"io"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
)

// TestShutdownServer sends both GOAWAY, serves what came between, refuses what
// came after, and ends with the last stream.
func TestShutdownServer(t *testing.T) {
	for _, pong := range []bool{true, false} {
		script(t, true, quiet(), func(p *peer) {
			p.greet()
			first := p.accept(1, true, getHead...)
			start := time.Now()
			p.c.Shutdown()
			p.c.Shutdown()
			if p.c.Usable() {
				t.Error("usable while draining")
			}
			<-p.c.Draining()
			if f := p.wantGoAway(http2.ErrCodeNo); f.LastStreamID != maxStreamID {
				t.Errorf("first GOAWAY: %v", f)
			}
			ping := wantFrame[*http2.PingFrame](p)
			second := p.accept(3, true, getHead...) // under way when we said so
			if pong {
				p.fr.WritePing(true, ping.Data)
			}
			if f := p.wantGoAway(http2.ErrCodeNo); f.LastStreamID != 3 {
				t.Errorf("second GOAWAY: %v", f)
			}
			if d := time.Since(start); pong && d != 0 || !pong && d != goAwayWait {
				t.Errorf("second GOAWAY after %v", d)
			}
			p.headers(5, true, getHead...) // refused in silence
			p.fr.WritePing(false, [8]byte{9})
			wantFrame[*http2.PingFrame](p)
			if len(p.got) > 0 {
				t.Error("a stream above the last was served")
			}
			first.WriteHead(&Head{Status: 200}, End)
			p.wantHead(1)
			p.wantNothing(time.Second)
			second.WriteHead(&Head{Status: 200}, End)
			p.wantHead(3)
			p.wantClosed()
			p.nc.Close()
			<-p.c.Done()
			if err := <-p.ret; err != nil {
				t.Errorf("Serve: %v", err)
			}
		})
	}
}

// TestShutdownLinger waits a second, no more, for the peer to close.
func TestShutdownLinger(t *testing.T) {
	script(t, true, quiet(), func(p *peer) {
		p.greet()
		p.c.Shutdown()
		start := time.Now()
		<-p.c.Done()
		if d := time.Since(start); d != goAwayWait+lingerTimeout {
			t.Errorf("closed after %v", d)
		}
	})
}

// TestShutdownClient says GOAWAY, finishes its streams and closes.
func TestShutdownClient(t *testing.T) {
	script(t, false, quiet(), func(p *peer) {
		p.greet()
		s := p.open(request("GET", "/"), End)
		p.c.Shutdown()
		if f := p.wantGoAway(http2.ErrCodeNo); f.LastStreamID != 0 {
			t.Errorf("%v", f)
		}
		if _, err := p.c.Open(request("GET", "/"), End); !errors.Is(err, ErrGoingAway) {
			t.Errorf("Open: %v", err)
		}
		p.headers(1, true, ":status", "204")
		if h, err := s.ReadHead(); err != nil || h.Status != 204 {
			t.Errorf("%v, %v", h, err)
		}
		p.wantClosed()
		p.nc.Close()
		if err := <-p.ret; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
}

// TestGoAwayReceived fails the streams above the last, unprocessed, and lets the
// others end.
func TestGoAwayReceived(t *testing.T) {
	script(t, false, quiet(), func(p *peer) {
		p.greet()
		a, b := p.open(request("GET", "/"), End), p.open(request("GET", "/"), End)
		p.fr.WriteGoAway(maxStreamID, http2.ErrCodeNo, nil)
		<-p.c.Draining()
		synctest.Wait()
		if a.Err() != nil || b.Err() != nil {
			t.Error("the first GOAWAY failed a stream")
		}
		if _, err := p.c.Open(request("GET", "/"), End); !errors.Is(err, ErrGoingAway) {
			t.Errorf("Open: %v", err)
		}
		p.fr.WriteGoAway(1, http2.ErrCodeNo, nil)
		_, err := b.ReadHead()
		var se *StreamError
		if !errors.As(err, &se) || !se.Unprocessed || !se.Remote {
			t.Errorf("stream above the last: %v", err)
		}
		p.headers(1, true, ":status", "200")
		if _, err := a.ReadHead(); err != nil {
			t.Error(err)
		}
		p.wantClosed()
		p.nc.Close()
		if err := <-p.ret; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	script(t, false, quiet(), func(p *peer) { // with an error
		p.greet()
		p.fr.WriteGoAway(0, http2.ErrCodeEnhanceYourCalm, []byte("too_many_pings"))
		p.wantClosed()
		p.nc.Close()
		var ce *ConnError
		if err := <-p.ret; !errors.As(err, &ce) || !ce.Remote || ce.Reason != "too_many_pings" {
			t.Errorf("Serve: %v", err)
		}
	})
}

// TestKeepalive sends a PING after ten idle seconds and closes when it stays
// unanswered for twenty.
func TestKeepalive(t *testing.T) {
	script(t, true, Config{}, func(p *peer) {
		p.greet()
		start := time.Now()
		ping := skipTo[*http2.PingFrame](p)
		if d := time.Since(start); d != 10*time.Second {
			t.Errorf("first PING after %v", d)
		}
		p.fr.WritePing(true, ping.Data)
		time.Sleep(7 * time.Second)
		p.fr.WriteRawFrame(0xfe, 0, 0, nil) // any frame shows life
		start = time.Now()
		skipTo[*http2.PingFrame](p)
		if d := time.Since(start); d != 10*time.Second {
			t.Errorf("second PING after %v", d)
		}
		time.Sleep(5 * time.Second)
		p.fr.WriteRawFrame(0xfe, 0, 0, nil) // alive, only slow to answer
		start = time.Now()
		p.wantClosed()
		if d := time.Since(start); d != 20*time.Second {
			t.Errorf("closed after %v", d)
		}
		var ce *ConnError
		if err := <-p.ret; !errors.As(err, &ce) {
			t.Errorf("Serve: %v", err)
		}
	})
}

func TestMaxAge(t *testing.T) {
	cfg := quiet()
	cfg.MaxAge = time.Minute
	script(t, true, cfg, func(p *peer) {
		p.greet()
		start := time.Now()
		<-p.c.Draining()
		if d := time.Since(start); d < 54*time.Second || d > 66*time.Second {
			t.Errorf("draining after %v", d)
		}
		p.wantGoAway(http2.ErrCodeNo)
	})
}

func TestPing(t *testing.T) {
	script(t, false, quiet(), func(p *peer) {
		p.greet()
		res := make(chan error, 1)
		go func() { res <- p.c.Ping(time.Second) }()
		f := wantFrame[*http2.PingFrame](p)
		p.fr.WritePing(true, [8]byte{0xff}) // not ours
		time.Sleep(time.Second / 2)
		p.fr.WritePing(true, f.Data)
		if err := <-res; err != nil {
			t.Error(err)
		}
		if d := time.Duration(p.c.rtt.Load()); d > time.Second/2 {
			t.Errorf("round trip %v", d)
		}
		if err := p.c.Ping(time.Second); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("unanswered: %v", err)
		}
		go func() { res <- p.c.Ping(time.Minute) }()
		synctest.Wait()
		p.c.Close(nil)
		if err := <-res; !errors.Is(err, ErrClosed) {
			t.Errorf("closed: %v", err)
		}
		if err := p.c.Ping(time.Second); !errors.Is(err, ErrClosed) {
			t.Errorf("after close: %v", err)
		}
	})
}

// TestPeerLeaves: gracefully with no stream open, unexpectedly with one.
func TestPeerLeaves(t *testing.T) {
	script(t, true, quiet(), func(p *peer) {
		p.greet()
		p.nc.CloseWrite()
		if err := <-p.ret; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	script(t, true, quiet(), func(p *peer) {
		p.greet()
		s := p.accept(1, false, postHead...)
		p.fr.WriteData(1, false, []byte("data"))
		p.nc.CloseWrite()
		if err := <-p.ret; !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("Serve: %v", err)
		}
		b, err := io.ReadAll(s)
		if string(b) != "data" || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("read %q, %v", b, err)
		}
		if _, err := s.Write([]byte("x")); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("write: %v", err)
		}
	})
}
