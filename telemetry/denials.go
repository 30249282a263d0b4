package telemetry

import (
	"strings"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// maxDenials bounds the rules that have a counter of their own; further ones are
// counted under empty names.
const maxDenials = 1000

// denial names what denied. The strings are owned.
type denial struct{ policy, rule, reason string }

// denials counts requests and connections by the rule that denied them. The
// zero value is ready for use.
type denials struct {
	mu sync.RWMutex
	m  map[denial]*atomic.Uint64 // guarded by mu
}

func (d *denials) add(policy, rule, reason string) {
	k := denial{policy, rule, reason}
	d.mu.RLock()
	n := d.m[k]
	d.mu.RUnlock()
	if n == nil {
		n = d.make(k)
	}
	n.Add(1)
}

func (d *denials) make(k denial) *atomic.Uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.m == nil {
		d.m = make(map[denial]*atomic.Uint64)
	}
	if len(d.m) >= maxDenials {
		k = denial{}
	}
	if n := d.m[k]; n != nil {
		return n
	}
	n := new(atomic.Uint64)
	d.m[denial{strings.Clone(k.policy), strings.Clone(k.rule), strings.Clone(k.reason)}] = n
	return n
}

var descDenials = desc("waypoint_denials_total", "Requests and connections denied, by the policy and rule that denied them.", []string{"policy", "rule", "reason"})

func (d *denials) collect(ch chan<- prometheus.Metric) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	for k, n := range d.m {
		ch <- prometheus.MustNewConstMetric(descDenials, prometheus.CounterValue, float64(n.Load()), k.policy, k.rule, k.reason)
	}
}
