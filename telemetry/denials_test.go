package telemetry

import (
	"fmt"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

func TestDenials(t *testing.T) {
	rep := New(Options{})
	deny := func(policy, reason string) {
		r := sample()
		r.Code, r.Denied, r.Policy, r.Reason = 403, true, policy, reason
		rep.Begin()
		rep.Done(r)
	}
	deny("shop/p", "deny_matched")
	deny("shop/p", "deny_matched")
	deny("", "no_allow_match")
	rep.Begin()
	rep.Done(sample()) // allowed
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(rep)
	fams, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range fams {
		if f.GetName() != "waypoint_denials_total" {
			continue
		}
		for _, m := range f.Metric {
			got[m.Label[0].GetValue()+"|"+m.Label[1].GetValue()] = m.Counter.GetValue()
		}
	}
	if len(got) != 2 || got["shop/p|deny_matched"] != 2 || got["|no_allow_match"] != 1 {
		t.Errorf("%v", got)
	}
}

func TestDenialsAreBounded(t *testing.T) {
	var d denials
	for i := range 3 * maxDenials {
		d.add(fmt.Sprint("ns/", i), "deny_matched")
	}
	if n := len(d.m); n > maxDenials+1 {
		t.Errorf("%d counters", n)
	}
	if over := d.m[denial{}]; over == nil || over.Load() != 2*maxDenials {
		t.Errorf("the rest is not counted together: %v", over)
	}
}

func TestCountingADenialDoesNotAllocate(t *testing.T) {
	var d denials
	policy := strings.Repeat("p", 20)
	d.add(policy, "deny_matched")
	if n := testing.AllocsPerRun(100, func() { d.add(policy, "deny_matched") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
