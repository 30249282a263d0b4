package telemetry

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

func TestDenials(t *testing.T) {
	rep := New(Options{})
	deny := func(policy, rule, reason string) {
		r := sample()
		r.Code, r.Denied, r.Policy, r.Rule, r.Reason = 403, true, policy, rule, reason
		rep.Begin()
		rep.Done(r)
	}
	const rule0, rule1 = "ns[shop]-policy[p]-rule[0]", "ns[shop]-policy[p]-rule[1]"
	deny("shop/p", rule0, "deny_matched")
	deny("shop/p", rule0, "deny_matched")
	deny("shop/p", rule1, "deny_matched")
	deny("", "", "no_allow_match")
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
			var key []string
			for _, l := range m.Label { // by name
				key = append(key, l.GetName()+"="+l.GetValue())
			}
			got[strings.Join(key, " ")] = m.Counter.GetValue()
		}
	}
	want := map[string]float64{
		"policy=shop/p reason=deny_matched rule=" + rule0: 2, "policy=shop/p reason=deny_matched rule=" + rule1: 1,
		"policy= reason=no_allow_match rule=": 1,
	}
	if !maps.Equal(got, want) {
		t.Errorf("%v", got)
	}
}

func TestDenialsAreBounded(t *testing.T) {
	var d denials
	for i := range 3 * maxDenials {
		d.add(fmt.Sprint("ns/", i), "r", "deny_matched")
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
	d.add(policy, policy, "deny_matched")
	if n := testing.AllocsPerRun(100, func() { d.add(policy, policy, "deny_matched") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
