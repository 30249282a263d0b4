package churn

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	proxyhttp1 "waypoint.dev/waypoint/proxy/http1"
	"waypoint.dev/waypoint/telemetry"
)

// ends are when connections to pods were reset.
type ends struct {
	mu   sync.Mutex
	list map[netip.Addr][]*end // guarded by mu
}

// end is one such moment. Every connection there was is gone at to.
type end struct {
	from, to time.Time
	lost     int // POSTs that no app saw, owned by judge
}

// of notes the end that f makes of a pod's connections.
func (e *ends) of(ip netip.Addr, f func()) {
	n := &end{from: time.Now()}
	f()
	n.to = time.Now()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.list == nil {
		e.list = map[netip.Addr][]*end{}
	}
	e.list[ip] = append(e.list[ip], n)
}

// record is what the waypoint says of a request that it did not answer well.
type record struct {
	pod        netip.Addr // the last it was sent to
	start, end time.Time
	attempts   int
	text       string
}

const noRecord = "the waypoint has no record of it"

// records implements telemetry.Tracer.
type records struct {
	mu   sync.Mutex
	byID map[string]record // guarded by mu
}

// Finish notes the record of a failed request.
func (r *records) Finish(rec *telemetry.Record) {
	if rec.Code == 200 && rec.GRPCStatus <= 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.byID == nil {
		r.byID = map[string]record{}
	}
	r.byID[strings.Clone(rec.RequestID)] = record{
		pod: rec.Upstream.Addr(), start: rec.Start, end: rec.Start.Add(rec.Duration), attempts: rec.Attempts,
		text: fmt.Sprintf("%d at %v, %d attempts, %s: %s", rec.Code, rec.Upstream, rec.Attempts, rec.Details, rec.TransportFailure),
	}
}

// explain finds the end of a pod that took the request with it. The pod lived when
// the request began and its connections were reset before it was answered: its
// bytes were in a socket that was alive, and only the pod could know how far they
// had come. A request that began when they were gone has no such excuse.
func (m *mesh) explain(id string) (*end, record) {
	m.records.mu.Lock()
	r, ok := m.records.byID[id]
	m.records.mu.Unlock()
	if !ok {
		return nil, record{text: noRecord}
	}
	m.ends.mu.Lock()
	defer m.ends.mu.Unlock()
	for _, e := range m.ends.list[r.pod] {
		if !r.start.After(e.to) && !r.end.Before(e.from) {
			return e, r
		}
	}
	return nil, r
}

// idled reports a request that crossed the close of its connection, which had
// idled for a second while it drained: what RFC 9112 section 9.5 says can happen to
// any client. A client here asks again at once, so it takes a machine that halts
// for so long.
func idled(f failure, r record) bool {
	return f.kind == http1 && r.text == noRecord && !f.since.IsZero() && f.at.Sub(f.since) >= proxyhttp1.DrainGrace &&
		strings.HasPrefix(f.what, "transport: ")
}

// judge holds the clients' failures against the apps' ledger.
func (m *mesh) judge(l *load) {
	t := m.t
	var begun, seen, unread, idle int
	for _, f := range l.failures {
		arrived := m.ledger.count(f.id) > 0
		switch {
		case f.begun:
			begun++
		case !f.post:
			t.Errorf("a GET was lost although resets are retried: %v (arrived: %v)", f, arrived)
		case arrived:
			seen++
		default:
			e, r := m.explain(f.id)
			if e == nil && idled(f, r) {
				idle++
				continue
			}
			if e == nil {
				t.Errorf("a request failed that no app saw, and no pod died with it: %v (%s)", f, r.text)
				continue
			}
			e.lost++
			unread++
		}
		if *verbose {
			t.Log(f)
		}
	}
	for _, id := range l.posts {
		if n := m.ledger.count(id); n > 1 {
			t.Errorf("POST %s arrived %d times", id, n)
		}
	}
	m.bound(unread, idle)
	share := duration.Seconds() / 60
	if n := m.snapshots.Load(); float64(n) < 500*share {
		t.Errorf("only %d snapshots", n)
	}
	if n := m.kills.Load() + m.silences.Load(); float64(n) < 20*share {
		t.Errorf("only %d kills", n)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var serials []string
	for _, who := range []string{"client", "waypoint, of clients", "waypoint, of pods", "pod"} {
		if n := len(m.serials[who]); n < 3 {
			t.Errorf("%s saw only %d certificates", who, n)
		}
		serials = append(serials, fmt.Sprintf("%s %d", who, len(m.serials[who])))
	}
	for k := range kinds {
		if l.sent[k].Load() < 100 {
			t.Errorf("only %d requests of %v", l.sent[k].Load(), k)
		}
	}
	if n := m.waypoint.Proxy.Panics(); n > 0 {
		t.Errorf("%d panics", n)
	}
	t.Logf("requests: http/1.1 %d, http/2 %d, grpc %d; failed: %d with the response begun, %d POSTs seen by an app, %d POSTs unread in the socket of a pod that was reset",
		l.sent[http1].Load(), l.sent[http2].Load(), l.sent[grpc].Load(), begun, seen, unread)
	t.Logf("churn: %d kills by RST, %d by silence, %d deletions, %d connections cut, %d snapshots; certificates seen: %s",
		m.kills.Load(), m.silences.Load(), m.leaves.Load(), m.cuts.Load(), m.snapshots.Load(), strings.Join(serials, ", "))
}

// bound holds the unread POSTs against what the resets can have taken: not more at
// once than can be on their way, and on average far fewer.
func (m *mesh) bound(unread, idle int) {
	resets := 0
	for ip, list := range m.ends.list {
		resets += len(list)
		for _, e := range list {
			if e.lost > workers*int(kinds) {
				m.t.Errorf("%d POSTs were lost with one reset of %v", e.lost, ip)
			}
		}
	}
	if unread > 2*resets {
		m.t.Errorf("%d unread POSTs over %d resets", unread, resets)
	}
	if idle > 5 {
		m.t.Errorf("%d requests crossed the close of their connection", idle)
	}
	m.t.Logf("%d unread POSTs over %d resets, %d requests that crossed the close of an idle connection", unread, resets, idle)
}
