package config

import (
	"net/netip"
	"testing"
)

func TestLookupDoesNotAllocate(t *testing.T) {
	m := model(100)
	m.Destinations = append(m.Destinations, &Destination{Key: "wide", Addrs: []netip.Prefix{prefix("198.51.100.0/24")}, Port: 80},
		&Destination{Key: "wild", Hosts: []string{"*.example.com"}, Port: 80})
	s, _ := Compile(m, nil, Env{})
	vip, wide := netip.MustParseAddrPort("10.0.0.7:80"), netip.MustParseAddrPort("198.51.100.9:80")
	c := s.Lookup(vip, "", 0)
	if n := testing.AllocsPerRun(100, func() {
		if s.Lookup(vip, "", 0) == nil || s.Lookup(wide, "", 0) == nil || s.Lookup(netip.AddrPort{}, "a.b.example.com", 80) == nil ||
			c.Table("clients") == nil || c.Target(0) == nil || c.Target(9) != nil || s.WorkloadByAddr(vip.Addr()) != nil {
			t.Error("wrong answer")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkCompile10k(b *testing.B) {
	m := model(10000)
	b.Run("first", func(b *testing.B) {
		for b.Loop() {
			Compile(m, nil, Env{})
		}
	})
	b.Run("one endpoint", func(b *testing.B) {
		s, _ := Compile(m, nil, Env{})
		key := m.Destinations[5].Backend
		full := m.Backends[key]
		less := *full
		less.Endpoints = less.Endpoints[:1]
		for i := 0; b.Loop(); i++ {
			m.Backends[key] = &less
			if i%2 == 0 {
				m.Backends[key] = full
			}
			s, _ = Compile(m, s, Env{})
		}
	})
}

func BenchmarkLookup(b *testing.B) {
	s, _ := Compile(model(10000), nil, Env{})
	a := netip.MustParseAddrPort("10.0.3.7:80")
	b.ReportAllocs()
	for b.Loop() {
		s.Lookup(a, "", 0)
	}
}
