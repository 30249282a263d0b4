package config

import (
	"fmt"
	"net/netip"
	"strings"

	"waypoint.dev/waypoint/authz"
	"waypoint.dev/waypoint/routing"
)

// chain compiles one destination. prev is its former chain, or nil.
func (c *compiler) chain(d *Destination, prev *Chain) *Chain {
	ch := &Chain{Spec: d, HTTPOnly: d.HTTPOnly, Broken: d.Broken, Workload: c.workload(d)}
	for _, key := range d.Refs {
		ch.targets = append(ch.targets, c.next.targets[key])
		if c.next.targets[key] == nil {
			ch.problem("refs", fmt.Sprintf("backend %q is unknown; its share answers 503 or what its route names", key))
		}
	}
	ch.Default = c.next.targets[d.Backend]
	ch.targets = append(ch.targets, ch.Default)
	if d.Backend == "" {
		ch.direct = &directTargets{workload: ch.Workload, m: make(map[netip.AddrPort]*Target)}
		if prev != nil && prev.direct != nil && sameWorkload(prev.Workload, ch.Workload) {
			ch.direct = prev.direct
		}
	}
	c.tables(ch)
	c.tcp(ch)
	c.stages(ch, prev)
	if c.env.Reports != nil && d.Telemetry != nil {
		ch.Reports, ch.unheard = c.env.Reports(d.Telemetry)
	}
	if len(d.Conn) > 0 {
		ch.Conn = authz.Compile(d.Conn)
	}
	return ch
}

func (c *compiler) tables(ch *Chain) {
	d := ch.Spec
	rules, order := d.Routes, d.Order
	if len(rules) == 0 {
		rules, order = []routing.Rule{{
			Retry: -1, Fault: -1, Session: -1, Hash: -1,
			Backends: []routing.Backend{{Ref: len(d.Refs), Weight: 1}},
		}}, routing.AsListed
	} else if !d.Implicit {
		ch.HTTPOnly = true
	}
	ch.table = ch.compileRules(rules, order)
	if len(d.Consumers) > 0 {
		ch.HTTPOnly = true
		ch.consumers = make(map[string]*routing.Table, len(d.Consumers))
		for ns, rules := range d.Consumers {
			ch.consumers[ns] = ch.compileRules(rules, d.Order)
		}
	}
}

func (ch *Chain) compileRules(rules []routing.Rule, o routing.Order) *routing.Table {
	t, errs := routing.Compile(rules, o)
	for _, e := range errs {
		r := &rules[e.Rule]
		if r.Broken != "" {
			continue // its source said why
		}
		ns, name, _ := strings.Cut(r.Route, "/")
		ch.Problems = append(ch.Problems, Problem{
			Severity: Error, Kind: r.Kind, Namespace: ns, Name: name, Reason: "InvalidRule",
			Field:   fmt.Sprintf("spec.rules[%d].%s", r.Index, e.Field),
			Message: e.Message,
		})
	}
	return t
}

func (c *compiler) tcp(ch *Chain) {
	ch.TCP = ch.compileTCP(ch.Spec.TCPRoutes)
	if len(ch.Spec.ConsumerTCP) > 0 {
		ch.byClient = make(map[string][]CompiledTCP, len(ch.Spec.ConsumerTCP))
		for ns, rs := range ch.Spec.ConsumerTCP {
			ch.byClient[ns] = ch.compileTCP(rs)
		}
	}
}

func (ch *Chain) compileTCP(rs []TCPRoute) (out []CompiledTCP) {
	for i := range rs {
		r := &rs[i]
		t := ch.compileRules([]routing.Rule{{
			Route: r.Route, Retry: -1, Fault: -1, Session: -1, Hash: -1, Backends: r.Backends,
		}}, routing.AsListed)
		out = append(out, CompiledTCP{Spec: r, Pick: t.Rules()[0]})
	}
	return out
}
