package h2

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"waypoint.dev/waypoint/internal/attrs"
)

// dialServer returns a client of ours to an http2.Server, over real TLS.
func dialServer(t *testing.T, cfg Config, srv *http2.Server, h http.Handler) *Conn {
	a, b := tcpPair(t)
	tc, ts := tls.Client(NewCork(a), clientTLS()), tls.Server(b, serverTLS())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if ts.Handshake() == nil {
			srv.ServeConn(ts, &http2.ServeConnOpts{Handler: h})
		}
		ts.Close()
	}()
	if err := tc.Handshake(); err != nil {
		t.Fatal(err)
	}
	c := NewClient(tc, cfg)
	go c.Serve()
	t.Cleanup(func() {
		c.Close(nil)
		<-c.Done()
		<-done
	})
	return c
}

var stdHandler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/sum":
		sum := newSum()
		io.Copy(sum, r.Body)
		w.Write(sum.Sum(nil))
	case "/big":
		w.Header().Set("Trailer", "X-End")
		io.CopyN(w, &pattern{}, interopBytes)
		w.Header().Set("X-End", "yes")
	case "/hints":
		w.Header().Set("Link", "</a>")
		w.WriteHeader(103)
		w.WriteHeader(204)
	case "/abort":
		w.WriteHeader(200)
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	default:
		w.WriteHeader(200)
		w.(http.Flusher).Flush()
		b := make([]byte, 32<<10)
		for {
			n, err := r.Body.Read(b)
			w.Write(b[:n])
			w.(http.Flusher).Flush()
			if err != nil {
				return
			}
		}
	}
})

func request(method, path string) *Head {
	return &Head{Method: method, Scheme: "https", Authority: "localhost", Path: path}
}

// roundTrip sends body and returns the final head and the body answered.
func roundTrip(c *Conn, h *Head, body []byte) (*Head, []byte, error) {
	f := Flags(0)
	if body == nil {
		f = End
	}
	s, err := c.Open(h, f)
	if err != nil {
		return nil, nil, err
	}
	defer s.Close()
	sent := make(chan error, 1)
	go func() {
		var err error
		if body != nil {
			_, err = s.WriteData(body, End)
		}
		sent <- err
	}()
	var head *Head
	for head == nil || head.Status < 200 {
		if head, err = s.ReadHead(); err != nil {
			s.Close()
			<-sent
			return nil, nil, err
		}
	}
	b, err := io.ReadAll(s)
	if err == nil {
		err = <-sent
	} else {
		s.Close()
		<-sent
	}
	return head, b, err
}

func TestInteropServerManyStreams(t *testing.T) {
	c := dialServer(t, Config{}, &http2.Server{}, stdHandler)
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			body := bytes.Repeat([]byte{byte(i)}, 1000*i)
			h, got, err := roundTrip(c, request("POST", "/echo"), body)
			if err != nil || h.Status != 200 || !bytes.Equal(got, body) {
				t.Errorf("stream %d: %v, %d of %d bytes, %v", i, h, len(got), len(body), err)
			}
		})
	}
	wg.Wait()
}

func TestInteropServerLarge(t *testing.T) {
	c := dialServer(t, Config{}, &http2.Server{}, stdHandler)
	s, err := c.Open(request("POST", "/sum"), 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(struct{ io.Writer }{s}, &pattern{}, interopBytes); err != nil {
		t.Fatal(err)
	}
	s.CloseWrite()
	got, err := io.ReadAll(s)
	if want := patternSum(interopBytes); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("upload: %x, want %x (%v)", got, want, err)
	}
	s.Close()
	if s, err = c.Open(request("GET", "/big"), End); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	sum := newSum()
	n, err := s.WriteTo(hashWriter{sum})
	if err != nil || n != interopBytes || !bytes.Equal(sum.Sum(nil), patternSum(n)) {
		t.Fatalf("download: %d bytes, %v", n, err)
	}
	tr := s.Trailers()
	if tr == nil || len(tr.Fields) != 1 || tr.Fields[0] != (attrs.Field{Name: "x-end", Value: "yes"}) {
		t.Errorf("trailers: %v", tr)
	}
}

func TestInteropServerInterimAndAbort(t *testing.T) {
	c := dialServer(t, Config{}, &http2.Server{}, stdHandler)
	s, err := c.Open(request("GET", "/hints"), End)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []int{103, 204} {
		h, err := s.ReadHead()
		if err != nil || h.Status != want {
			t.Fatalf("head %v, %v; want %d", h, err, want)
		}
	}
	if _, err := s.ReadHead(); !errors.Is(err, io.EOF) {
		t.Errorf("third head: %v", err)
	}
	s.Close()
	if s, err = c.Open(request("GET", "/abort"), End); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	_, err = io.ReadAll(s)
	var se *StreamError
	if !errors.As(err, &se) || !se.Remote || se.Code != http2.ErrCodeInternal {
		t.Errorf("abort: %v", err)
	}
	if s.Err() == nil {
		t.Error("no error after a reset")
	}
}

// TestInteropServerGoAway has the peer drain while a stream is open: it ends
// well and no other is opened.
func TestInteropServerGoAway(t *testing.T) {
	srv := &http2.Server{}
	hs := &http.Server{}
	if err := http2.ConfigureServer(hs, srv); err != nil {
		t.Fatal(err)
	}
	a, b := tcpPair(t)
	served := make(chan struct{})
	go func() {
		defer close(served)
		ts := tls.Server(b, serverTLS())
		if ts.Handshake() == nil {
			srv.ServeConn(ts, &http2.ServeConnOpts{Handler: stdHandler, BaseConfig: hs})
		}
	}()
	tc := tls.Client(a, clientTLS())
	if err := tc.Handshake(); err != nil {
		t.Fatal(err)
	}
	c := NewClient(tc, Config{})
	go c.Serve()
	s, err := c.Open(request("POST", "/echo"), 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.ReadHead(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	go hs.Shutdown(ctx)
	<-c.Draining()
	if _, err := c.Open(request("GET", "/"), End); !errors.Is(err, ErrGoingAway) {
		t.Errorf("Open while draining: %v", err)
	}
	if _, err := s.WriteData([]byte("late"), End); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(s); err != nil || string(got) != "late" {
		t.Errorf("stream under way: %q, %v", got, err)
	}
	s.Close()
	<-c.Done()
	if err := c.Err(); err != nil {
		t.Errorf("connection: %v", err)
	}
	<-served
}
