package churn

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"waypoint.dev/waypoint/telemetry"
)

// ends are when connections to pods were reset, or went unheard.
type ends struct {
	mu   sync.Mutex
	list map[netip.Addr][]span // guarded by mu
}

type span struct{ from, to time.Time }

// of notes the end that f makes of a pod's connections.
func (e *ends) of(ip netip.Addr, f func()) {
	from := time.Now()
	f()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.list == nil {
		e.list = map[netip.Addr][]span{}
	}
	e.list[ip] = append(e.list[ip], span{from, time.Now()})
}

// meets reports whether the pod's connections ended within a time.
func (e *ends) meets(ip netip.Addr, during span) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, s := range e.list[ip] {
		if !during.from.After(s.to) && !during.to.Before(s.from) {
			return true
		}
	}
	return false
}

// record is what the waypoint says of a request that it did not answer well.
type record struct {
	pod  netip.Addr // the last it was sent to
	open span
	text string
}

// records implements telemetry.Tracer.
type records struct {
	mu   sync.Mutex
	byID map[string]record // guarded by mu
}

// Finish notes the record of a failed request.
func (r *records) Finish(rec *telemetry.Record) {
	if rec.Code == 200 && rec.GRPCStatus <= 0 && rec.Flags == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.byID == nil {
		r.byID = map[string]record{}
	}
	r.byID[strings.Clone(rec.RequestID)] = record{
		pod: rec.Upstream.Addr(), open: span{rec.Start, rec.Start.Add(rec.Duration)},
		text: fmt.Sprintf("%d at %v, %d attempts, %v %s: %s", rec.Code, rec.Upstream, rec.Attempts, rec.Flags, rec.Details, rec.TransportFailure),
	}
}

// of returns the record of a request. Its text says so if there is none.
func (r *records) of(id string) record {
	r.mu.Lock()
	defer r.mu.Unlock()
	rec, ok := r.byID[id]
	if !ok {
		rec.text = "the waypoint has no record of it"
	}
	return rec
}

// fault says what a failure tells against the waypoint; empty: nothing. arrived
// is how often an app saw the request, ended whether the connections of the pod it
// went to did while it was open.
func fault(f failure, arrived int, ended bool) string {
	switch {
	case arrived == 0:
		return "a request failed that no app saw"
	case !f.post && !f.begun:
		return "a GET was lost although resets are retried"
	case !ended:
		return "a request failed though no pod went with it"
	}
	return ""
}

// judge holds the clients' failures against the apps' ledger.
func (m *mesh) judge(l *load) {
	t := m.t
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	begun := 0
	for _, f := range l.failures {
		r := m.records.of(f.id)
		ended := m.ends.meets(r.pod, r.open)
		if s := fault(f, m.ledger.await(ctx, f.id), ended); s != "" {
			t.Errorf("%s: %v (%s; its pod went: %v)", s, f, r.text, ended)
		} else if *verbose {
			t.Logf("%v (%s)", f, r.text)
		}
		if f.begun {
			begun++
		}
	}
	for _, id := range l.posts {
		if n := m.ledger.count(id); n > 1 {
			t.Errorf("POST %s arrived %d times", id, n)
		}
	}
	m.churned(l)
	t.Logf("requests: http/1.1 %d, http/2 %d, grpc %d; failed: %d with the response begun, %d POSTs that died with their pod",
		l.sent[http1].Load(), l.sent[http2].Load(), l.sent[grpc].Load(), begun, len(l.failures)-begun)
}

// churned fails a run in which too little happened to prove anything.
func (m *mesh) churned(l *load) {
	t := m.t
	least := func(what string, n int64, aMinute float64) {
		if want := max(1, aMinute*duration.Minutes()); float64(n) < want {
			t.Errorf("only %d %s, want %.0f", n, what, want)
		}
	}
	least("snapshots", m.snapshots.Load(), 500)
	least("kills", m.kills.Load()+m.silences.Load(), 20)
	least("connections cut", m.cuts.Load(), 5)
	least("deletions", m.leaves.Load(), 5)
	for k := range kinds {
		least("requests of "+k.String(), l.sent[k].Load(), 200)
	}
	var low []string
	for _, f := range m.shops {
		least("times that as many pods were away as may be: "+f.name, f.lowest.Load(), 5)
		low = append(low, fmt.Sprintf("%s %d times %d of %d", f.name, f.lowest.Load(), cap(f.gone), pods))
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
	if n := m.waypoint.Proxy.Panics(); n > 0 {
		t.Errorf("%d panics", n)
	}
	t.Logf("churn: %d kills by RST, %d by silence, %d deletions, %d connections cut, %d snapshots; away at once: %s; certificates seen: %s",
		m.kills.Load(), m.silences.Load(), m.leaves.Load(), m.cuts.Load(), m.snapshots.Load(), strings.Join(low, ", "), strings.Join(serials, ", "))
}

func TestFault(t *testing.T) {
	get, post := failure{}, failure{post: true}
	half := failure{begun: true}
	for _, c := range []struct {
		name    string
		f       failure
		arrived int
		ended   bool
		want    string
	}{
		{"POST that no app saw", post, 0, true, "no app saw"},
		{"POST that died with its pod", post, 1, true, ""},
		{"POST that a living pod saw", post, 1, false, "no pod went"},
		{"GET that no app saw", get, 0, true, "no app saw"},
		{"GET that an app saw", get, 2, true, "a GET was lost"},
		{"GET that died in its answer", half, 1, true, ""},
		{"GET whose answer ended for no reason", half, 1, false, "no pod went"},
		{"answer from nowhere", half, 0, true, "no app saw"},
	} {
		if got := fault(c.f, c.arrived, c.ended); !strings.Contains(got, c.want) || (got == "") != (c.want == "") {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
