package main

import (
	"bytes"
	"io"
	"testing"
	"time"

	"waypoint.dev/waypoint/conformance/load"
	"waypoint.dev/waypoint/conformance/measure"
	"waypoint.dev/waypoint/hbone/h2"
)

// maxSlowReader is what a client that does not read may cost: one stream's first
// window of 64 KiB on the backend's side, one piece of a body on its way and the
// tunnel, and a quarter for the sizes that buffers come in.
const maxSlowReader = 128 << 10

// TestManyTunnels holds 15,000 tunnels on 300 connections at the real binary.
func TestManyTunnels(t *testing.T) {
	const conns, streams = 300, 50
	l, err := start(t.Context(), buildWaypoint(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.close)
	before := live(t, l.waypoint)
	s, err := load.Open(t.Context(), l.workload(shape{"many", conns, streams, 0}, "/64"))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	each := (live(t, l.waypoint) - before) / (conns * streams)
	t.Logf("%d bytes a tunnel, RSS %.1f MiB", each, measure.MiB(l.waypoint.RSS()))
	if each > maxIdleTunnel {
		t.Errorf("a tunnel costs %d bytes, budget %d", each, maxIdleTunnel)
	}
}

// TestSlowReaders has 500 clients ask for 1 MiB each and read nothing behind the
// first byte, then all of it: what nobody reads stays with the application.
func TestSlowReaders(t *testing.T) {
	const conns, streams, size = 10, 50, 1 << 20
	l, err := start(t.Context(), buildWaypoint(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.close)
	w := l.workload(shape{"slow", conns, streams, 0}, "/1048576")
	before := live(t, l.waypoint)
	var readers []*h2.Stream
	for range conns {
		c, err := load.Dial(t.Context(), w.Waypoint, w.Client)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for range streams {
			s, err := c.Tunnel(w.Authority)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Write(w.Request); err != nil {
				t.Fatal(err)
			}
			readers = append(readers, s)
		}
	}
	one := make([]byte, 1)
	for _, s := range readers {
		s.SetReadDeadline(time.Now().Add(20 * time.Second))
		if _, err := io.ReadFull(s, one); err != nil {
			t.Fatal(err)
		}
	}
	var most int64
	for range 10 { // while windows fill
		most = max(most, live(t, l.waypoint)-before)
	}
	t.Logf("%d bytes a reader, RSS %.1f MiB", most/int64(len(readers)), measure.MiB(l.waypoint.RSS()))
	if each := most / int64(len(readers)); each > maxSlowReader {
		t.Errorf("a client that does not read costs %d bytes, budget %d", each, maxSlowReader)
	}
	buf := make([]byte, 64<<10)
	for i, s := range readers {
		s.SetReadDeadline(time.Now().Add(20 * time.Second))
		head, err := s.Read(buf)
		for err == nil && !bytes.Contains(buf[:head], []byte("\r\n\r\n")) {
			var n int
			n, err = s.Read(buf[head:])
			head += n
		}
		if err != nil {
			t.Fatal(err)
		}
		left := size - (head - bytes.Index(buf[:head], []byte("\r\n\r\n")) - 4)
		if n, err := io.CopyBuffer(io.Discard, struct{ io.Reader }{io.LimitReader(s, int64(left))}, buf); err != nil || n != int64(left) {
			t.Fatalf("reader %d: %d bytes of %d: %v", i, n, left, err)
		}
	}
}
