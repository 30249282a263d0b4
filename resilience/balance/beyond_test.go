package balance

import (
	"net/netip"
	"testing"
)

// A policy that wants another locality may still come to a host it has tried.
func TestPickBeyondTried(t *testing.T) {
	near := &Endpoint{Key: "near", Addr: netip.MustParseAddrPort("10.0.0.1:80"), Host: new(Host)}
	far := &Endpoint{Key: "far", Addr: netip.MustParseAddrPort("10.0.0.2:80"), Priority: 1, Host: new(Host)}
	s := NewSet(Policy{}, []*Endpoint{near, far}, nil)
	if e := s.PickBeyond(0, nil, nil); e != near {
		t.Errorf("picked %v", e)
	}
	if e := s.PickBeyond(0, nil, []*Endpoint{near}); e != far {
		t.Errorf("beyond the first priority: %v", e)
	}
	if e := s.PickBeyond(0, []*Endpoint{near}, nil); e != far {
		t.Errorf("avoiding a tried host: %v", e)
	}
}
