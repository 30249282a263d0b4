package resilience

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"waypoint.dev/waypoint/resilience/balance"
)

// Cause is why a host was ejected, in Envoy's words.
type Cause string

// The causes; CauseNone marks a return.
const (
	CauseNone             Cause = ""
	CauseConsecutive5xx   Cause = "CONSECUTIVE_5XX"
	CauseConsecutiveGW    Cause = "CONSECUTIVE_GATEWAY_FAILURE"
	CauseConsecutiveLocal Cause = "CONSECUTIVE_LOCAL_ORIGIN_FAILURE"
	CauseSuccessRate      Cause = "SUCCESS_RATE"
	CauseLocalSuccessRate Cause = "SUCCESS_RATE_LOCAL_ORIGIN"
)

// Event is an ejection, a refused one, or a return.
type Event struct {
	Endpoint *balance.Endpoint
	Cause    Cause         // CauseNone: the host is back
	Enforced bool          // false: max ejection percent held it in
	For      time.Duration // how long it is out, at least
	Ejected  int           // hosts out afterwards
	Of       int           // hosts in all
}

// Detector is outlier detection for the endpoints of one backend, on Envoy's
// model. What it knows of a host stands in balance.Host, so it survives changes
// of configuration and endpoints. The zero value is not usable.
//
// Report takes no lock unless a host reaches a threshold. A timer runs only while
// there is something to sweep, so a Detector may simply be dropped.
type Detector struct {
	// fixed after NewDetector
	notify func(Event)

	settings atomic.Pointer[Outlier] // with defaults; nil: off

	mu sync.Mutex
	// guarded by mu
	endpoints []*balance.Endpoint
	ejected   int
	timer     *time.Timer // non-nil: armed
	closed    bool
	armed     atomic.Bool // timer != nil, for Report
}

// NewDetector returns a detector that is off until Update. notify, if not nil, is
// called for each event with the detector's lock held: it must be quick and must
// not call back.
func NewDetector(notify func(Event)) *Detector { return &Detector{notify: notify} }

// Update sets the settings (nil: off) and the endpoints watched. Ejected hosts
// stay out, unless detection is switched off.
func (d *Detector) Update(o *Outlier, endpoints []*balance.Endpoint) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.endpoints = endpoints
	d.ejected = 0
	for _, e := range endpoints {
		if e.Host.Ejected.Load() {
			if o == nil {
				d.restore(e)
				continue
			}
			d.ejected++
		}
	}
	if o == nil {
		d.settings.Store(nil)
		d.stop()
		return
	}
	c := o.withDefaults()
	d.settings.Store(&c)
	if d.ejected > 0 {
		d.arm(&c)
	}
}

// Close stops the timer. Ejected hosts stay as they are.
func (d *Detector) Close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	d.settings.Store(nil)
	d.stop()
}

// withDefaults fills in what zero stands for where zero cannot be meant.
func (o *Outlier) withDefaults() Outlier {
	c := *o
	set := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	set(&c.Interval, 10*time.Second)
	set(&c.BaseEjection, 30*time.Second)
	set(&c.MaxEjection, max(300*time.Second, c.BaseEjection))
	if c.MaxEjectionPercent > 100 {
		c.MaxEjectionPercent = 100
	}
	if c.SuccessRateMinHosts == 0 {
		c.SuccessRateMinHosts = 5
	}
	if c.SuccessRateVolume == 0 {
		c.SuccessRateVolume = 100
	}
	if c.SuccessRateStdevFactor == 0 {
		c.SuccessRateStdevFactor = 1900
	}
	return c
}

// Report counts the end of a try. status is the response's, or that of its
// grpc-status ([GRPCToHTTP]); it is ignored for failures: a connect failure or
// reset counts as 503, a timeout as 504, in split mode as a local failure. Our
// own overflow, and a client that left, count for nothing.
func (d *Detector) Report(e *balance.Endpoint, f Failure, status int) {
	o := d.settings.Load()
	if o == nil || e == nil || e.Host == nil {
		return
	}
	h := &e.Host.Faults
	switch f {
	case FailureOverflow, FailureClient:
		return
	case FailureNone:
		if o.SplitLocal {
			clear32(&h.ConsecutiveLocal)
			d.sample(o, &h.LocalTotal, &h.LocalGood, true)
		}
	default:
		if o.SplitLocal {
			d.sample(o, &h.LocalTotal, &h.LocalGood, false)
			d.count(e, &h.ConsecutiveLocal, o.ConsecutiveLocal, CauseConsecutiveLocal)
			return
		}
		status = 503 // a timeout is a 504, which counts the same
	}
	bad := status >= 500
	d.sample(o, &h.Total, &h.Good, !bad)
	if !bad {
		clear32(&h.Consecutive5xx)
		clear32(&h.ConsecutiveGateway)
		return
	}
	if status >= 502 && status <= 504 {
		d.count(e, &h.ConsecutiveGateway, o.ConsecutiveGateway, CauseConsecutiveGW)
	} else {
		clear32(&h.ConsecutiveGateway)
	}
	d.count(e, &h.Consecutive5xx, o.Consecutive5xx, CauseConsecutive5xx)
}

// clear32 writes only if it must: hosts that do well share a clean cache line.
func clear32(n *atomic.Uint32) {
	if n.Load() != 0 {
		n.Store(0)
	}
}

// sample counts for the success rate.
func (d *Detector) sample(o *Outlier, total, good *atomic.Uint32, ok bool) {
	if !o.SuccessRate {
		return
	}
	total.Add(1)
	if ok {
		good.Add(1)
	}
	if !d.armed.Load() {
		d.mu.Lock()
		d.arm(o)
		d.mu.Unlock()
	}
}

// count adds a failure and ejects the host when it is the limit-th in a row.
func (d *Detector) count(e *balance.Endpoint, n *atomic.Uint32, limit uint32, cause Cause) {
	if limit == 0 || n.Add(1) < limit {
		return
	}
	n.Store(0)
	d.mu.Lock()
	defer d.mu.Unlock()
	if o := d.settings.Load(); o != nil {
		d.eject(e, o, cause)
	}
}

// eject takes a host out if the share of ejected hosts allows it. mu is held.
func (d *Detector) eject(e *balance.Endpoint, o *Outlier, cause Cause) {
	if e.Host.Ejected.Load() || !d.watches(e) {
		return
	}
	if !mayEject(d.ejected, len(d.endpoints), o) {
		d.tell(Event{Endpoint: e, Cause: cause, Ejected: d.ejected, Of: len(d.endpoints)})
		return
	}
	f := &e.Host.Faults
	if time.Duration(f.Ejections)*o.BaseEjection < o.MaxEjection+o.BaseEjection {
		f.Ejections++ // no further: it also has to come down again
	}
	out := min(time.Duration(f.Ejections)*o.BaseEjection, o.MaxEjection)
	now := time.Now()
	f.EjectedAt, f.EjectedUntil = now.UnixNano(), now.Add(out).UnixNano()
	e.Host.Ejected.Store(true)
	d.ejected++
	d.arm(o)
	d.tell(Event{Endpoint: e, Cause: cause, Enforced: true, For: out, Ejected: d.ejected, Of: len(d.endpoints)})
}

// watches reports whether the endpoint's host is still one of the backend's: a
// late report for a removed one must not use up the share.
func (d *Detector) watches(e *balance.Endpoint) bool {
	for _, w := range d.endpoints {
		if w.Host == e.Host {
			return true
		}
	}
	return false
}

// mayEject is Envoy's rule since 1.28: the share with this host may not pass the
// maximum, for the first host too.
func mayEject(ejected, hosts int, o *Outlier) bool {
	if hosts == 0 {
		return false
	}
	if 100*(ejected+1) <= int(o.MaxEjectionPercent)*hosts {
		return true
	}
	return o.AlwaysEjectOne && ejected == 0
}

// CanEverEject reports whether outlier detection can take out any of n hosts; if
// it cannot, the settings do nothing for a backend of that size.
func CanEverEject(n int, o *Outlier) bool {
	if o == nil || o.Consecutive5xx == 0 && o.ConsecutiveGateway == 0 && !o.SuccessRate &&
		(!o.SplitLocal || o.ConsecutiveLocal == 0) {
		return false
	}
	return mayEject(0, n, o)
}

// restore takes a host back. mu is held.
func (d *Detector) restore(e *balance.Endpoint) {
	f := &e.Host.Faults
	// Near-threshold counters from before must not eject it again at once.
	f.Consecutive5xx.Store(0)
	f.ConsecutiveGateway.Store(0)
	f.ConsecutiveLocal.Store(0)
	f.EjectedUntil = 0
	e.Host.Ejected.Store(false)
}

func (d *Detector) tell(ev Event) {
	if d.notify != nil {
		d.notify(ev)
	}
}

// arm starts the sweep timer. mu is held.
func (d *Detector) arm(o *Outlier) {
	if d.timer == nil && !d.closed {
		d.armed.Store(true)
		d.timer = time.AfterFunc(o.Interval, d.sweep)
	}
}

func (d *Detector) stop() {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
		d.armed.Store(false)
	}
}

// sweep runs every interval: it takes hosts back whose time is over, lets the
// multiplier of the others fall, and judges success rates.
func (d *Detector) sweep() {
	d.mu.Lock()
	defer d.mu.Unlock()
	o := d.settings.Load()
	if d.timer == nil || o == nil {
		return // stopped while the timer fired
	}
	now := time.Now().UnixNano()
	more := false
	for _, e := range d.endpoints {
		f := &e.Host.Faults
		switch {
		case e.Host.Ejected.Load():
			if f.EjectedUntil <= now {
				d.restore(e)
				d.ejected--
				d.tell(Event{Endpoint: e, Ejected: d.ejected, Of: len(d.endpoints)})
			}
			more = true
		case f.Ejections > 0:
			f.Ejections-- // an interval without ejection
			more = true
		}
	}
	if o.SuccessRate {
		more = d.judge(o, CauseSuccessRate, external) || more
		if o.SplitLocal {
			more = d.judge(o, CauseLocalSuccessRate, local) || more
		}
	}
	d.timer = nil
	d.armed.Store(false)
	if more {
		d.arm(o)
	}
}

func external(f *balance.Faults) (total, good *atomic.Uint32) { return &f.Total, &f.Good }
func local(f *balance.Faults) (total, good *atomic.Uint32)    { return &f.LocalTotal, &f.LocalGood }

// judge ejects the hosts whose success rate lies more than stdev*factor under the
// mean of all hosts with enough requests, and starts a new interval. It reports
// whether there was any request. mu is held.
func (d *Detector) judge(o *Outlier, cause Cause, of func(*balance.Faults) (total, good *atomic.Uint32)) bool {
	type sample struct {
		e    *balance.Endpoint
		rate float64
	}
	var samples []sample
	any := false
	sum := 0.0
	for _, e := range d.endpoints {
		t, g := of(&e.Host.Faults)
		total, good := t.Swap(0), g.Swap(0)
		any = any || total > 0
		if total >= o.SuccessRateVolume && !e.Host.Ejected.Load() {
			// A request counted between the two swaps may leave good over total.
			rate := min(100, 100*float64(good)/float64(total))
			samples = append(samples, sample{e, rate})
			sum += rate
		}
	}
	if len(samples) == 0 || len(samples) < int(o.SuccessRateMinHosts) {
		return any
	}
	mean := sum / float64(len(samples))
	variance := 0.0
	for _, s := range samples {
		variance += (s.rate - mean) * (s.rate - mean)
	}
	stdev := math.Sqrt(variance / float64(len(samples)))
	threshold := mean - stdev*float64(o.SuccessRateStdevFactor)/1000
	for _, s := range samples {
		if s.rate < threshold {
			d.eject(s.e, o, cause)
		}
	}
	return any
}
