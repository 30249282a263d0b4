//go:build !race

package h2

import (
	"io"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"
)

// connect opens a tunnel of ours and reads its answer.
func connect(tb testing.TB, c *Conn) *Stream {
	tb.Helper()
	s, err := c.Open(&Head{Method: "CONNECT", Authority: "10.0.0.1:80"}, 0)
	if err != nil {
		tb.Fatal(err)
	}
	if h, err := s.ReadHead(); err != nil || h.Status != 200 {
		tb.Fatalf("answer %v, %v", h, err)
	}
	return s
}

// TestExchangeAllocs: DATA there and back on an open stream allocates nothing,
// nor does what keeps it going (windows, flushes, deadlines).
func TestExchangeAllocs(t *testing.T) {
	tests := []struct {
		name  string
		dial  func() (net.Conn, net.Conn)
		allow float64
	}{
		{"memory", memPair2, 0},
		// crypto/tls itself allocates once a read from the network, at both ends.
		{"tls", func() (net.Conn, net.Conn) { return tlsPair(t) }, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, b := tt.dial()
			client, _ := pair(t, a, b, Config{Connect: true}, Config{Connect: true}, echo)
			s := connect(t, client)
			msg, got := make([]byte, 1024), make([]byte, 1024)
			exchange := func() {
				s.SetDeadline(time.Now().Add(time.Minute))
				if _, err := s.Write(msg); err != nil {
					t.Fatal(err)
				}
				if _, err := io.ReadFull(s, got); err != nil {
					t.Fatal(err)
				}
			}
			for range 1000 {
				exchange()
			}
			if n := testing.AllocsPerRun(2000, exchange); n > tt.allow {
				t.Errorf("%v allocations an exchange, want at most %v", n, tt.allow)
			}
			s.Close()
		})
	}
}

func memPair2() (net.Conn, net.Conn) {
	a, b := memPair(0)
	return a, b
}

// TestOpenAllocs bounds what a stream costs to open, answer and close, on both
// ends together.
func TestOpenAllocs(t *testing.T) {
	a, b := memPair2()
	client, _ := pair(t, a, b, Config{}, Config{}, handlerFunc(func(s *Stream) {
		s.WriteHead(&Head{Status: 200}, End)
	}))
	h := request("GET", "/")
	open := func() {
		s, err := client.Open(h, End)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.ReadHead(); err != nil {
			t.Fatal(err)
		}
		s.Close()
	}
	for range 500 {
		open()
	}
	// Two streams, the handler's goroutine, and the two header strings that are
	// not in the static table.
	if n := testing.AllocsPerRun(1000, open); n > 7 {
		t.Errorf("%v allocations a stream", n)
	}
}

// TestIdleMemory measures idle tunnels: both ends of 300 connections of 50
// streams would do; a tenth of that is measured here, over real TLS.
func TestIdleMemory(t *testing.T) {
	const conns, streams = 30, 50
	measure := func() uint64 {
		for range 3 {
			runtime.GC()
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc + m.StackInuse
	}
	before := measure()
	release := make(chan struct{})
	var wg sync.WaitGroup
	park := handlerFunc(func(s *Stream) {
		s.WriteHead(&Head{Status: 200}, 0)
		if s.WaitReadable() == nil {
			io.Copy(io.Discard, s)
		}
	})
	for range conns {
		a, b := tlsPair(t)
		client, _ := pair(t, a, b, Config{Connect: true}, Config{Connect: true}, park)
		for range streams {
			s := connect(t, client)
			s.Write(make([]byte, 20<<10)) // it has been busy once
			wg.Go(func() { <-release; s.Close() })
		}
	}
	per := int64(measure()-before) / (conns * streams)
	close(release)
	wg.Wait()
	t.Logf("%d bytes an idle tunnel, both ends", per)
	// One end's budget is 8 KiB; here are two ends and their connections.
	if per > 16<<10 {
		t.Errorf("an idle tunnel costs %d bytes", per)
	}
}
