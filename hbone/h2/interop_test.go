package h2

import (
	"bytes"
	"context"

	"crypto/tls"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"

	"golang.org/x/net/http2"

	"waypoint.dev/waypoint/internal/attrs"
)

// interopBytes is the size of the large transfers; the soak tag raises it.
var interopBytes int64 = 32 << 20

// pattern is an endless stream of bytes that repeats with no power of two.
type pattern struct{ off int64 }

var patternBytes = func() []byte {
	b := make([]byte, 65521)
	for i := range b {
		b[i] = byte(i*7 + i>>8)
	}
	return b
}()

func (p *pattern) Read(b []byte) (int, error) {
	n := copy(b, patternBytes[p.off%int64(len(patternBytes)):])
	p.off += int64(n)
	return n, nil
}

// newSum is a hash that costs less than the transfer.
func newSum() hash.Hash { return crc32.New(castagnoli) }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func patternSum(n int64) []byte {
	h := newSum()
	io.CopyN(h, &pattern{}, n)
	return h.Sum(nil)
}

// our server as an http2.Transport sees it: /echo, /sum and /big.
var webHandler = handlerFunc(func(s *Stream) {
	h := s.Head()
	switch h.Path {
	case "/sum":
		sum := newSum()
		if _, err := s.WriteTo(hashWriter{sum}); err != nil {
			return
		}
		s.WriteHead(&Head{Status: 200}, More)
		s.WriteData(sum.Sum(nil), End)
	case "/big":
		s.WriteHead(&Head{Status: 200}, 0)
		if _, err := io.CopyN(struct{ io.Writer }{s}, &pattern{}, interopBytes); err == nil {
			s.WriteHead(&Head{Fields: []attrs.Field{{Name: "x-end", Value: "yes"}}}, End)
		}
	case "/early":
		s.WriteHead(&Head{Status: 413}, End)
	case "/reset":
		s.WriteHead(&Head{Status: 200}, 0)
		s.Write([]byte("partial"))
		s.Reset(http2.ErrCodeInternal)
	default:
		echo(s)
	}
})

type hashWriter struct{ hash.Hash }

// transport returns an http.Client whose http2.Transport talks to a server of
// ours, over real TLS.
func transport(t *testing.T, cfg Config, h Handler) (*http.Client, func() *Conn) {
	ln := listen(t)
	var mu sync.Mutex
	var conns []*Conn
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				tc := tls.Server(NewCork(nc), serverTLS())
				if tc.Handshake() != nil {
					nc.Close()
					return
				}
				c := NewServer(tc, cfg, h)
				mu.Lock()
				conns = append(conns, c)
				mu.Unlock()
				c.Serve()
			})
		}
	})
	tr := &http2.Transport{
		TLSClientConfig: clientTLS(),
		DialTLSContext: func(ctx context.Context, network, addr string, cfg *tls.Config) (net.Conn, error) {
			return tls.Dial("tcp", ln.Addr().String(), cfg)
		},
	}
	t.Cleanup(func() {
		tr.CloseIdleConnections()
		ln.Close()
		mu.Lock()
		for _, c := range conns {
			c.Close(nil)
		}
		mu.Unlock()
		wg.Wait()
	})
	return &http.Client{Transport: tr}, func() *Conn {
		mu.Lock()
		defer mu.Unlock()
		return conns[len(conns)-1]
	}
}

func TestInteropTransportManyStreams(t *testing.T) {
	cl, _ := transport(t, Config{}, webHandler)
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			body := bytes.Repeat([]byte{byte(i)}, 1000*i)
			resp, err := cl.Post("https://localhost/echo", "x", bytes.NewReader(body))
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			got, err := io.ReadAll(resp.Body)
			if err != nil || !bytes.Equal(got, body) {
				t.Errorf("stream %d: %d bytes, %v", i, len(got), err)
			}
		})
	}
	wg.Wait()
}

func TestInteropTransportLarge(t *testing.T) {
	cl, _ := transport(t, Config{}, webHandler)
	resp, err := cl.Post("https://localhost/sum", "x", io.LimitReader(&pattern{}, interopBytes))
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if want := patternSum(interopBytes); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("upload: %x, want %x (%v)", got, want, err)
	}
	resp, err = cl.Get("https://localhost/big")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	sum := newSum()
	n, err := io.Copy(sum, resp.Body)
	if err != nil || n != interopBytes || !bytes.Equal(sum.Sum(nil), patternSum(n)) {
		t.Fatalf("download: %d bytes, %v", n, err)
	}
	if resp.Trailer.Get("x-end") != "yes" {
		t.Errorf("trailers: %v", resp.Trailer)
	}
}

func TestInteropTransportEarlyAndReset(t *testing.T) {
	cl, _ := transport(t, Config{}, webHandler)
	pr, pw := io.Pipe()
	defer pw.Close()
	req, _ := http.NewRequest("POST", "https://localhost/early", pr)
	resp, err := cl.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 413 {
		t.Errorf("early response: %d", resp.StatusCode)
	}
	resp, err = cl.Get("https://localhost/reset")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	_, err = io.ReadAll(resp.Body)
	var se http2.StreamError
	if !errors.As(err, &se) || se.Code != http2.ErrCodeInternal {
		t.Errorf("reset: %v", err)
	}
}

// TestInteropTransportCancels cancels downloads in the middle while others run.
func TestInteropTransportCancels(t *testing.T) {
	cl, last := transport(t, Config{}, webHandler)
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			path := "/big"
			if i%5 == 0 {
				path = "/echo"
			}
			req, _ := http.NewRequestWithContext(ctx, "POST", "https://localhost"+path, bytes.NewReader([]byte("whole")))
			resp, err := cl.Do(req)
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			if i%5 == 0 {
				if b, err := io.ReadAll(resp.Body); err != nil || string(b) != "whole" {
					t.Errorf("%q, %v", b, err)
				}
				return
			}
			if _, err := io.CopyN(io.Discard, resp.Body, int64(100<<10*(i%7))); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if err := last().Err(); err != nil {
		t.Errorf("connection: %v", err)
	}
}

// TestInteropTransportGoAway drains our server while requests flow: none fails.
func TestInteropTransportGoAway(t *testing.T) {
	cl, last := transport(t, Config{}, webHandler)
	for round := range 3 {
		started := make(chan struct{})
		pr, pw := io.Pipe()
		req, _ := http.NewRequest("POST", "https://localhost/echo", pr)
		done := make(chan error, 1)
		go func() {
			resp, err := cl.Do(req)
			close(started)
			if err != nil {
				done <- err
				return
			}
			defer resp.Body.Close()
			b, err := io.ReadAll(resp.Body)
			if err == nil && string(b) != "ab" {
				err = fmt.Errorf("got %q", b)
			}
			done <- err
		}()
		pw.Write([]byte("a"))
		<-started
		c := last()
		c.Shutdown()
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				resp, err := cl.Post("https://localhost/echo", "x", bytes.NewReader([]byte("x")))
				if err != nil {
					t.Errorf("round %d: %v", round, err)
					return
				}
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			})
		}
		wg.Wait()
		pw.Write([]byte("b"))
		pw.Close()
		if err := <-done; err != nil {
			t.Errorf("stream under way: %v", err)
		}
		<-c.Done()
		if err := c.Err(); err != nil {
			t.Errorf("drained connection: %v", err)
		}
	}
}
