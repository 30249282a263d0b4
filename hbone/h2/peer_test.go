package h2

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// A peer scripts frames against one end of ours, inside a synctest bubble.
type peer struct {
	*testing.T
	nc   *memConn
	fr   *http2.Framer
	enc  *hpack.Encoder
	ebuf bytes.Buffer
	dec  *hpack.Decoder
	c    *Conn         // ours
	ret  chan error    // what Serve returned
	got  chan *Stream  // streams given to the handler
	hold chan struct{} // lets the default handler return
}

// quiet has no timers of its own.
func quiet() Config { return Config{KeepaliveInterval: -1} }

// script runs f in a bubble against a server (or client) of ours. The handler
// of the server hands its stream to f and waits for its end.
func script(t *testing.T, server bool, cfg Config, f func(p *peer)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { runScript(t, server, cfg, 0, f) })
}

func runScript(t *testing.T, server bool, cfg Config, limit int, f func(p *peer)) {
	t.Helper()
	ours, theirs := memPair(limit)
	p := &peer{T: t, nc: theirs, ret: make(chan error, 1), got: make(chan *Stream, 1000), hold: make(chan struct{})}
	p.fr = http2.NewFramer(theirs, theirs)
	p.fr.AllowIllegalWrites, p.fr.AllowIllegalReads = true, true
	p.enc = hpack.NewEncoder(&p.ebuf)
	p.dec = hpack.NewDecoder(4096, nil)
	if server {
		p.c = NewServer(ours, cfg, handlerFunc(func(s *Stream) {
			p.got <- s
			<-p.hold
		}))
	} else {
		p.c = NewClient(ours, cfg)
	}
	go func() { p.ret <- p.c.Serve() }()
	defer func() { // also after Fatal
		close(p.hold)
		p.c.Close(nil)
		<-p.c.Done()
		theirs.Close()
		synctest.Wait()
	}()
	if server {
		io.WriteString(theirs, http2.ClientPreface)
	} else {
		b := make([]byte, len(http2.ClientPreface))
		if _, err := io.ReadFull(theirs, b); err != nil || string(b) != http2.ClientPreface {
			t.Fatalf("preface %q, %v", b, err)
		}
	}
	f(p)
}

// greet exchanges SETTINGS.
func (p *peer) greet(s ...http2.Setting) {
	p.Helper()
	p.fr.WriteSettings(s...)
	for acked, theirs := false, false; !acked || !theirs; {
		switch f := p.next().(type) {
		case *http2.SettingsFrame:
			if f.IsAck() {
				acked = true
			} else {
				theirs = true
				p.fr.WriteSettingsAck()
			}
		case *http2.WindowUpdateFrame:
		default:
			p.Fatalf("in greeting: %v", f)
		}
	}
}

// next returns the next frame; waiting longer than 30 s of the bubble fails.
func (p *peer) next() http2.Frame {
	p.Helper()
	p.nc.SetReadDeadline(time.Now().Add(30 * time.Second))
	f, err := p.fr.ReadFrame()
	if err != nil {
		p.Fatalf("reading a frame: %v", err)
	}
	return f
}

// wantNothing checks that no frame comes for d.
func (p *peer) wantNothing(d time.Duration) {
	p.Helper()
	p.nc.SetReadDeadline(time.Now().Add(d))
	if f, err := p.fr.ReadFrame(); err == nil {
		p.Fatalf("unexpected frame %v", f)
	}
}

// wantClosed checks that the connection closes, after any of the given frames.
func (p *peer) wantClosed() {
	p.Helper()
	p.nc.SetReadDeadline(time.Now().Add(30 * time.Second))
	for {
		if _, err := p.fr.ReadFrame(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			p.Fatalf("connection does not close: %v", err)
		}
	}
}

func wantFrame[F http2.Frame](p *peer) F {
	p.Helper()
	g := p.next()
	f, ok := g.(F)
	if !ok {
		p.Fatalf("got frame %v, want %T", g, f)
	}
	return f
}

// skipTo returns the next frame of a type, passing over others.
func skipTo[F http2.Frame](p *peer) F {
	p.Helper()
	for {
		if f, ok := p.next().(F); ok {
			return f
		}
	}
}

func (p *peer) wantReset(id uint32, code http2.ErrCode) {
	p.Helper()
	if f := skipTo[*http2.RSTStreamFrame](p); f.StreamID != id || f.ErrCode != code {
		p.Fatalf("got %v, want RST_STREAM of %d with %v", f, id, code)
	}
}

func (p *peer) wantGoAway(code http2.ErrCode) *http2.GoAwayFrame {
	p.Helper()
	f := skipTo[*http2.GoAwayFrame](p)
	if f.ErrCode != code {
		p.Fatalf("GOAWAY with %v (%s), want %v", f.ErrCode, f.DebugData(), code)
	}
	return f
}

// block encodes name, value pairs.
func (p *peer) block(kv ...string) []byte {
	p.ebuf.Reset()
	for i := 0; i < len(kv); i += 2 {
		p.enc.WriteField(hpack.HeaderField{Name: kv[i], Value: kv[i+1]})
	}
	return bytes.Clone(p.ebuf.Bytes())
}

func (p *peer) headers(id uint32, end bool, kv ...string) {
	p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: p.block(kv...), EndHeaders: true, EndStream: end})
}

var getHead = []string{":method", "GET", ":scheme", "http", ":authority", "a", ":path", "/"}
var postHead = []string{":method", "POST", ":scheme", "http", ":authority", "a", ":path", "/"}
var connectHead = []string{":method", "CONNECT", ":authority", "10.0.0.1:80"}

// wantHead reads a HEADERS frame and renders it as "k=v k=v", with " END".
func (p *peer) wantHead(id uint32) string {
	p.Helper()
	f := skipTo[*http2.HeadersFrame](p)
	if f.StreamID != id {
		p.Fatalf("HEADERS of stream %d, want %d", f.StreamID, id)
	}
	fields, err := p.dec.DecodeFull(f.HeaderBlockFragment())
	if err != nil {
		p.Fatal(err)
	}
	s := ""
	for _, hf := range fields {
		s += fmt.Sprintf("%s=%s ", hf.Name, hf.Value)
	}
	if f.StreamEnded() {
		s += "END "
	}
	return s[:len(s)-1]
}

// open has our client open a stream, and reads its HEADERS.
func (p *peer) open(h *Head, f Flags) *Stream {
	p.Helper()
	s, err := p.c.Open(h, f)
	if err != nil {
		p.Fatal(err)
	}
	p.wantHead(s.ID())
	return s
}

// accept opens a stream on our server and returns it.
func (p *peer) accept(id uint32, end bool, kv ...string) *Stream {
	p.Helper()
	p.headers(id, end, kv...)
	return <-p.got
}
