package h2

import (
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"waypoint.dev/waypoint/internal/attrs"
)

// TestServerExchange runs one whole exchange and checks every frame of it.
func TestServerExchange(t *testing.T) {
	script(t, true, quiet(), func(p *peer) {
		p.greet()
		s := p.accept(1, false, append(append([]string{}, postHead...), "content-length", "5", "x-a", "1")...)
		h := s.Head()
		if h.Method != "POST" || h.Scheme != "http" || h.Authority != "a" || h.Path != "/" || h.End ||
			len(h.Fields) != 2 || h.Fields[1] != (attrs.Field{Name: "x-a", Value: "1"}) {
			t.Errorf("head %+v", h)
		}
		if _, err := s.Write([]byte("x")); !errors.Is(err, ErrHeadOrder) {
			t.Errorf("DATA before the head: %v", err)
		}
		if err := s.WriteHead(&Head{}, 0); !errors.Is(err, ErrHeadOrder) {
			t.Errorf("trailers before the head: %v", err)
		}
		if err := s.WriteHead(&Head{Status: 103, Fields: []attrs.Field{{Name: "link", Value: "</a>"}}}, 0); err != nil {
			t.Error(err)
		}
		if got := p.wantHead(1); got != ":status=103 link=</a>" {
			t.Errorf("got %s", got)
		}
		writes := p.c.nc.(*memConn).writes
		s.WriteHead(&Head{Status: 200, Fields: []attrs.Field{{Name: "cookie", Value: "c"}}}, More)
		s.WriteData([]byte("answer"), More)
		if err := s.WriteHead(&Head{Status: 200}, 0); !errors.Is(err, ErrHeadOrder) {
			t.Errorf("second head: %v", err)
		}
		s.WriteHead(&Head{Fields: []attrs.Field{{Name: "grpc-status", Value: "0"}}}, 0)
		if n := p.c.nc.(*memConn).writes - writes; n != 1 {
			t.Errorf("%d writes to the network, want 1", n)
		}
		if got := p.wantHead(1); got != ":status=200 cookie=c" {
			t.Errorf("got %s", got)
		}
		if f := wantFrame[*http2.DataFrame](p); string(f.Data()) != "answer" {
			t.Errorf("got %v", f)
		}
		if got := p.wantHead(1); got != "grpc-status=0 END" {
			t.Errorf("got %s", got)
		}
		if _, err := s.Write([]byte("x")); !errors.Is(err, ErrWriteEnded) {
			t.Errorf("DATA after the end: %v", err)
		}
		if err := s.CloseWrite(); err != nil {
			t.Errorf("CloseWrite after the end: %v", err)
		}
		p.fr.WriteData(1, true, []byte("hello"))
		if b, err := io.ReadAll(s); string(b) != "hello" || err != nil {
			t.Errorf("body %q, %v", b, err)
		}
		if s.Trailers() != nil || s.Err() != nil || s.BytesReceived() != 5 || s.BytesSent() != 6 {
			t.Errorf("end: %v %v %d %d", s.Trailers(), s.Err(), s.BytesReceived(), s.BytesSent())
		}
		synctest.Wait()
		if n := p.c.OpenStreams(); n != 0 {
			t.Errorf("%d streams open", n)
		}
		s.Close()
		s.Close()
		p.wantNothing(time.Second) // no reset: it ended both ways
	})
}

// TestHalfClose ends each direction apart, as TCP would.
func TestHalfClose(t *testing.T) {
	cfg := quiet()
	cfg.Connect = true
	script(t, true, cfg, func(p *peer) {
		p.greet()
		s := p.accept(1, false, connectHead...)
		s.WriteHead(&Head{Status: 200}, 0)
		if got := p.wantHead(1); got != ":status=200" {
			t.Errorf("got %s", got)
		}
		p.fr.WriteData(1, true, []byte("bye"))
		if b, err := io.ReadAll(s); string(b) != "bye" || err != nil {
			t.Errorf("%q, %v", b, err)
		}
		if _, err := s.Write([]byte("still here")); err != nil {
			t.Error(err)
		}
		wantFrame[*http2.DataFrame](p)
		if p.c.OpenStreams() != 1 {
			t.Error("closed before both ends did")
		}
		s.CloseWrite()
		if f := wantFrame[*http2.DataFrame](p); !f.StreamEnded() || len(f.Data()) != 0 {
			t.Errorf("%v", f)
		}
		if p.c.OpenStreams() != 0 {
			t.Error("open after both ends closed")
		}
	})
}

// TestConnectMode refuses what is no CONNECT tunnel.
func TestConnectMode(t *testing.T) {
	cfg := quiet()
	cfg.Connect = true
	script(t, true, cfg, func(p *peer) {
		p.greet()
		p.headers(1, true, getHead...)
		if got := p.wantHead(1); got != ":status=400 content-length=0 END" {
			t.Errorf("GET: %s", got)
		}
		p.headers(3, false, postHead...)
		p.wantHead(3)
		p.wantReset(3, http2.ErrCodeNo)
		p.accept(5, false, connectHead...)
		p.headers(5, true, "trailer", "1")
		p.wantReset(5, http2.ErrCodeProtocol)
	})
}

// TestResets checks what either side sees of a reset.
func TestResets(t *testing.T) {
	script(t, false, quiet(), func(p *peer) {
		p.greet()
		// Data received before it is still read; then comes the error.
		s := p.open(request("POST", "/"), 0)
		p.headers(1, false, ":status", "200")
		p.fr.WriteData(1, false, []byte("part"))
		p.fr.WriteRSTStream(1, http2.ErrCodeInternal)
		b, err := io.ReadAll(s)
		var se *StreamError
		if string(b) != "part" || !errors.As(err, &se) || !se.Remote || se.Code != http2.ErrCodeInternal || se.Unprocessed {
			t.Errorf("read %q, %v", b, err)
		}
		if _, err := s.Write([]byte("x")); err != s.Err() || err == nil {
			t.Errorf("write: %v", err)
		}
		s.Close()
		if _, err := s.Read(make([]byte, 1)); !errors.Is(err, ErrReleased) {
			t.Errorf("read after Close: %v", err)
		}
		// NO_ERROR after a whole response is none.
		s = p.open(request("POST", "/"), 0)
		p.headers(3, true, ":status", "413")
		p.fr.WriteRSTStream(3, http2.ErrCodeNo)
		if h, err := s.ReadHead(); err != nil || h.Status != 413 || !h.End {
			t.Errorf("%v, %v", h, err)
		}
		synctest.Wait()
		if n, err := s.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
			t.Errorf("read: %v", err)
		}
		if s.Err() != nil {
			t.Errorf("Err: %v", s.Err())
		}
		if _, err := s.Write([]byte("x")); !errors.As(err, &se) || se.Code != http2.ErrCodeNo {
			t.Errorf("write: %v", err)
		}
		// REFUSED_STREAM may be retried.
		s = p.open(request("GET", "/"), End)
		p.fr.WriteRSTStream(5, http2.ErrCodeRefusedStream)
		if _, err := s.ReadHead(); !errors.As(err, &se) || !se.Unprocessed {
			t.Errorf("refused: %v", err)
		}
		// Ours.
		s = p.open(request("GET", "/"), End)
		p.headers(7, false, ":status", "200")
		p.fr.WriteData(7, false, []byte("dropped"))
		synctest.Wait()
		s.Reset(http2.ErrCodeCancel)
		p.wantReset(7, http2.ErrCodeCancel)
		if n, err := s.Read(make([]byte, 9)); n != 0 || !errors.As(err, &se) || se.Remote {
			t.Errorf("read after our reset: %d, %v", n, err)
		}
		s = p.open(request("GET", "/"), End)
		s.Close()
		p.wantReset(9, http2.ErrCodeCancel)
	})
}

// TestHandlerReturns resets what a handler leaves open.
func TestHandlerReturns(t *testing.T) {
	script(t, true, quiet(), func(p *peer) {
		p.c.handler = handlerFunc(func(s *Stream) {
			if s.Head().Path == "/answer" {
				s.WriteHead(&Head{Status: 200}, End)
			}
		})
		p.greet()
		p.headers(1, false, postHead...)
		p.wantReset(1, http2.ErrCodeInternal)
		p.headers(3, false, ":method", "POST", ":scheme", "http", ":path", "/answer")
		p.wantHead(3)
		p.wantReset(3, http2.ErrCodeNo)
		p.headers(5, true, ":method", "POST", ":scheme", "http", ":path", "/answer")
		p.wantHead(5)
		p.wantNothing(time.Second)
		if p.c.OpenStreams() != 0 {
			t.Error("streams left")
		}
	})
}

// TestOpenLimits keeps to the peer's MAX_CONCURRENT_STREAMS and to the ids.
func TestOpenLimits(t *testing.T) {
	script(t, false, quiet(), func(p *peer) {
		if n := p.c.StreamLimit(); n != 100 {
			t.Errorf("limit before SETTINGS: %d", n)
		}
		p.greet(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 2})
		if n := p.c.StreamLimit(); n != 2 {
			t.Errorf("limit: %d", n)
		}
		s := p.open(request("GET", "/"), End)
		p.open(request("GET", "/"), End)
		if _, err := p.c.Open(request("GET", "/"), End); !errors.Is(err, ErrStreamLimit) {
			t.Errorf("third: %v", err)
		}
		if _, err := p.c.Open(&Head{Method: "CONNECT", Protocol: "websocket"}, 0); !errors.Is(err, ErrStreamLimit) {
			t.Error(err)
		}
		s.Close()
		if _, err := p.c.Open(&Head{Method: "CONNECT", Protocol: "websocket"}, 0); !errors.Is(err, ErrHeadOrder) {
			t.Errorf("extended CONNECT uninvited: %v", err)
		}
		p.c.mu.Lock()
		p.c.nextID = maxStreamID
		p.c.mu.Unlock()
		last, err := p.c.Open(request("GET", "/"), End)
		if err != nil || last.ID() != maxStreamID {
			t.Fatal(err)
		}
		last.Close()
		if _, err := p.c.Open(request("GET", "/"), End); !errors.Is(err, ErrGoingAway) || p.c.Usable() {
			t.Errorf("ids exhausted: %v", err)
		}
		p.c.Close(io.ErrClosedPipe)
		if _, err := p.c.Open(request("GET", "/"), End); !errors.Is(err, ErrClosed) {
			t.Errorf("closed: %v", err)
		}
		if err := p.c.Err(); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("Err: %v", err)
		}
	})
}

func TestReadDeadline(t *testing.T) {
	script(t, true, quiet(), func(p *peer) {
		p.greet()
		s := p.accept(1, false, postHead...)
		start := time.Now()
		s.SetReadDeadline(start.Add(time.Second))
		b := make([]byte, 8)
		if _, err := s.Read(b); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		if err := s.WaitReadable(); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("WaitReadable: %v", err)
		}
		p.fr.WriteData(1, false, []byte("x"))
		synctest.Wait()
		if _, err := s.Read(b); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("expired: %v", err)
		}
		s.SetReadDeadline(time.Time{})
		if n, err := s.Read(b); n != 1 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		// Moved later while waiting, then earlier.
		s.SetReadDeadline(time.Now().Add(time.Second))
		start = time.Now()
		res := make(chan error, 1)
		go func() { _, err := s.Read(b); res <- err }()
		synctest.Wait()
		s.SetReadDeadline(start.Add(time.Hour))
		time.Sleep(2 * time.Second)
		s.SetReadDeadline(start.Add(3 * time.Second))
		if err := <-res; !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != 3*time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		// In the past: at once.
		s.SetReadDeadline(time.Time{})
		go func() { _, err := s.Read(b); res <- err }()
		synctest.Wait()
		s.SetDeadline(time.Now().Add(-time.Second))
		if err := <-res; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
		s.Close()
		if err := s.SetDeadline(time.Now()); !errors.Is(err, ErrReleased) {
			t.Errorf("after Close: %v", err)
		}
	})
}

func TestReadHeadWaits(t *testing.T) {
	script(t, false, quiet(), func(p *peer) {
		p.greet()
		s := p.open(request("GET", "/"), End)
		if s.Head() != nil {
			t.Error("a head before any came")
		}
		s.SetReadDeadline(time.Now().Add(time.Second))
		if _, err := s.ReadHead(); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%v", err)
		}
		s.SetReadDeadline(time.Time{})
		p.headers(1, false, ":status", "100")
		p.headers(1, false, ":status", "103")
		p.headers(1, true, ":status", "200", "content-type", "x")
		synctest.Wait()
		for _, want := range []int{100, 103, 200} {
			if h, err := s.ReadHead(); err != nil || h.Status != want || h.End != (want == 200) {
				t.Errorf("%v, %v; want %d", h, err, want)
			}
		}
	})
}

// TestContinuation sends and receives heads larger than a frame.
func TestContinuation(t *testing.T) {
	big := strings.Repeat("v", 40<<10)
	script(t, false, quiet(), func(p *peer) {
		p.greet()
		h := request("GET", "/")
		h.Fields = []attrs.Field{{Name: "big", Value: big}, {Name: "last", Value: "1"}}
		if _, err := p.c.Open(h, End); err != nil {
			t.Fatal(err)
		}
		f := wantFrame[*http2.HeadersFrame](p)
		block := append([]byte(nil), f.HeaderBlockFragment()...)
		if !f.StreamEnded() || f.HeadersEnded() {
			t.Errorf("%v", f)
		}
		for done := false; !done; {
			c := wantFrame[*http2.ContinuationFrame](p)
			block = append(block, c.HeaderBlockFragment()...)
			done = c.HeadersEnded()
		}
		fields, err := p.dec.DecodeFull(block)
		if err != nil || len(fields) != 6 || fields[4].Value != big {
			t.Errorf("%d fields, %v", len(fields), err)
		}
	})
	script(t, true, quiet(), func(p *peer) {
		p.greet()
		block := p.block(append(append([]string{}, getHead...), "big", big)...)
		p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block[:7], EndStream: true})
		for block = block[7:]; len(block) > 16000; block = block[16000:] {
			p.fr.WriteContinuation(1, false, block[:16000])
		}
		p.fr.WriteContinuation(1, true, block)
		s := <-p.got
		if h := s.Head(); !h.End || len(h.Fields) != 1 || h.Fields[0].Value != big {
			t.Error("head differs")
		}
	})
}

// TestWriteTo lends chunks, gathers them, and gives them back after an error.
func TestWriteTo(t *testing.T) {
	script(t, true, quiet(), func(p *peer) {
		p.greet()
		s := p.accept(1, false, postHead...)
		for range 3 {
			p.fr.WriteData(1, false, make([]byte, 16<<10))
		}
		synctest.Wait()
		boom := errors.New("boom")
		n, err := s.WriteTo(writerFunc(func(b []byte) (int, error) { return len(b) - 1, boom }))
		if n != 16<<10-1 || !errors.Is(err, boom) {
			t.Errorf("%d, %v", n, err)
		}
		var flags []Flags
		go p.fr.WriteData(1, true, []byte("end"))
		synctest.Wait()
		n, err = s.WriteTo(dataFunc(func(b []byte, f Flags) (int, error) {
			flags = append(flags, f)
			return len(b), nil
		}))
		if n != 32<<10+1+3 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		if len(flags) != 4 || flags[0] != More || flags[3] != 0 {
			t.Errorf("flags %v", flags)
		}
		// Closed while lent.
		s = p.accept(3, false, postHead...)
		p.fr.WriteData(3, false, make([]byte, 16<<10))
		p.fr.WriteData(3, false, make([]byte, 4<<10))
		synctest.Wait()
		n, err = s.WriteTo(writerFunc(func(b []byte) (int, error) {
			s.Close()
			b[0] = 1 // still ours
			return len(b), nil
		}))
		if n != 16<<10 || !errors.Is(err, ErrReleased) || s.first != nil {
			t.Errorf("%d, %v", n, err)
		}
	})
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

type dataFunc func(p []byte, f Flags) (int, error)

func (f dataFunc) Write(p []byte) (int, error)              { return f(p, 0) }
func (f dataFunc) WriteData(p []byte, g Flags) (int, error) { return f(p, g) }

// TestCloseWakes ends every wait when the connection is closed.
func TestCloseWakes(t *testing.T) {
	script(t, false, quiet(), func(p *peer) {
		p.greet(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
		res := make(chan error, 3)
		a, b, c := p.open(request("POST", "/"), 0), p.open(request("POST", "/"), 0), p.open(request("POST", "/"), 0)
		go func() { _, err := a.Write([]byte("x")); res <- err }()
		go func() { _, err := b.Read(make([]byte, 1)); res <- err }()
		go func() { _, err := c.ReadHead(); res <- err }()
		synctest.Wait()
		boom := errors.New("boom")
		p.c.Close(boom)
		for range 3 {
			if err := <-res; !errors.Is(err, boom) {
				t.Error(err)
			}
		}
		if err := a.Err(); !errors.Is(err, boom) {
			t.Errorf("Err: %v", err)
		}
	})
}

// TestHeadPastDeadline writes heads where the time is up: nothing keeps them, so
// they go, and DATA does not.
func TestHeadPastDeadline(t *testing.T) {
	script(t, true, quiet(), func(p *peer) {
		p.greet()
		s := p.accept(1, true, getHead...)
		time.Sleep(time.Second)
		s.SetWriteDeadline(time.Now().Add(-time.Millisecond))
		if err := s.WriteHead(&Head{Status: 200}, 0); err != nil {
			t.Error(err)
		}
		if got := p.wantHead(1); got != ":status=200" {
			t.Errorf("got %s", got)
		}
		if _, err := s.Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("DATA: %v", err)
		}
		if err := s.WriteHead(&Head{Fields: []attrs.Field{{Name: "grpc-status", Value: "4"}}}, 0); err != nil {
			t.Error(err)
		}
		if got := p.wantHead(1); got != "grpc-status=4 END" {
			t.Errorf("got %s", got)
		}
	})
}
