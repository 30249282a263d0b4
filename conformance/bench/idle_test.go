package main

import (
	"encoding/json"
	"io"
	"net/http"
	"testing"

	"waypoint.dev/waypoint/conformance/load"
	"waypoint.dev/waypoint/conformance/measure"
)

// What an idle tunnel may cost the waypoint process: live heap and goroutine
// stacks, with its share of the connection.
const maxIdleTunnel = 8 << 10

// live is a waypoint's live heap and its stacks, behind a collection.
func live(t *testing.T, p *measure.Waypoint) int64 {
	t.Helper()
	var m struct {
		Heap  int64 `json:"heap_alloc"`
		Stack int64 `json:"stack_inuse"`
	}
	// Several: the first only moves what pools hold to their victims.
	for range 3 {
		res, err := http.Get("http://" + p.Admin + "/debug/pprof/heap?gc=1")
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, res.Body)
		res.Body.Close()
	}
	res, err := http.Get("http://" + p.Admin + "/memory")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(&m); err != nil {
		t.Fatal(err)
	}
	return m.Heap + m.Stack
}

// TestIdleTunnels opens 2,000 tunnels on 40 connections and measures what each
// costs before and after it carried a request.
func TestIdleTunnels(t *testing.T) {
	const conns, streams = 40, 50
	l, err := start(t.Context(), buildWaypoint(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.close)
	w := l.workload(shape{"idle", conns, streams, 0}, "/64")
	warm, err := load.Open(t.Context(), w) // what the first connections cost once
	if err != nil {
		t.Fatal(err)
	}
	warm.Close()
	before := live(t, l.waypoint)
	s, err := load.Open(t.Context(), w)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	check := func(when string, budget int64) {
		t.Helper()
		each := (live(t, l.waypoint) - before) / (conns * streams)
		t.Logf("%s: %d bytes a tunnel, RSS %.1f MiB", when, each, measure.MiB(l.waypoint.RSS()))
		if each > budget {
			t.Errorf("%s: an idle tunnel costs %d bytes, budget %d", when, each, budget)
		}
	}
	check("fresh", maxIdleTunnel)
	if err := s.Each(t.Context()); err != nil {
		t.Fatal(err)
	}
	check("after a request each", maxIdleTunnel)
}
