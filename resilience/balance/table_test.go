package balance

import (
	"net/netip"
	"testing"

	"github.com/cespare/xxhash/v2"
)

// owners maps keys to endpoint keys.
func owners(s *Set, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = s.Pick(xxhash.Sum64([]byte{byte(i), byte(i >> 8), byte(i >> 16)}), nil, 0).Key
	}
	return out
}

func moved(a, b []string, except string) (all, avoidable int) {
	for i := range a {
		if a[i] != b[i] {
			all++
			if a[i] != except && b[i] != except {
				avoidable++
			}
		}
	}
	return all, avoidable
}

func hashPolicies() []Policy {
	return []Policy{{Kind: RingHash, RingMin: 10_000}, {Kind: Maglev}}
}

// TestHashStability: one endpoint of n coming or going moves about 1/n of keys.
func TestHashStability(t *testing.T) {
	const keys, n = 20_000, 20
	for _, p := range hashPolicies() {
		t.Run(p.Kind.name(), func(t *testing.T) {
			eps := endpoints(n + 1)
			full := NewSet(p, eps, nil)
			less := NewSet(p, eps[:n], nil)
			before, after := owners(full, keys), owners(less, keys)
			all, avoidable := moved(before, after, eps[n].Key)
			if all > keys/n+keys*5/100 || all == 0 {
				t.Errorf("%d of %d keys moved", all, keys)
			}
			// Maglev gives up some stability for evenness (section 5.3 of the paper); an
			// Envoy ring gives each endpoint 1/21 fewer points with the one more.
			if limit := keys * 5 / 100; avoidable > limit {
				t.Errorf("%d keys moved between endpoints that stayed, at most %d expected", avoidable, limit)
			}
			// An ejection moves only the keys of the ejected.
			eps[3].Host.Ejected.Store(true)
			ejected := owners(full, keys)
			if all, avoidable = moved(before, ejected, eps[3].Key); avoidable != 0 || all == 0 {
				t.Errorf("an ejection moved %d keys, %d of them of others", all, avoidable)
			}
			eps[3].Host.Ejected.Store(false)
			if all, _ = moved(before, owners(full, keys), ""); all != 0 {
				t.Errorf("%d keys did not come back", all)
			}
		})
	}
}

// TestRingLikeEnvoy: the points are those Envoy's ring has, xxHash64 of "address_i".
func TestRingLikeEnvoy(t *testing.T) {
	eps := endpoints(2)
	eps[1].Tunnel = netip.MustParseAddrPort("10.0.0.1:15008")
	s := NewSet(Policy{Kind: RingHash, RingMin: 4}, eps, nil)
	if n := len(s.tables[0].points); n != 4 {
		t.Fatalf("%d points, want 4", n)
	}
	for text, want := range map[string]*Endpoint{
		"10.0.0.0:8080_0": eps[0], "10.0.0.0:8080_1": eps[0],
		"envoy://connect_originate/10.0.0.1:8080_0": eps[1], "envoy://connect_originate/10.0.0.1:8080_1": eps[1],
	} {
		if got := s.Pick(xxhash.Sum64String(text), nil, 0); got != want {
			t.Errorf("the point %q is of %s", text, got.Key)
		}
	}
	for i := 1; i < 4; i++ {
		if s.tables[0].points[i-1] > s.tables[0].points[i] {
			t.Fatal("the ring is not sorted")
		}
	}
	if s.Pick(s.tables[0].points[3]+1, nil, 0) != s.Pick(1, nil, 0) {
		t.Error("the ring is not closed")
	}
}

func TestRingSizes(t *testing.T) {
	for _, c := range []struct {
		n        int
		min, max uint64
		want     int
	}{
		{3, 1024, 8 << 20, 1026}, // ceil(1024/3) = 342 each
		{4, 6, 6, 6},             // 1.5 each
		{10, 1, 8 << 20, 10},
		{10, 1, 4, 4},
		{1, 0, 0, 1024},
	} {
		s := NewSet(Policy{Kind: RingHash, RingMin: c.min, RingMax: c.max}, endpoints(c.n), nil)
		if got := len(s.tables[0].points); got != c.want {
			t.Errorf("%d endpoints, ring %d..%d: %d points, want %d", c.n, c.min, c.max, got, c.want)
		}
	}
}

func TestMaglevSpread(t *testing.T) {
	eps := endpoints(10)
	eps[0].Weight = 5
	s := NewSet(Policy{Kind: Maglev, TableSize: 65537}, eps, nil)
	n := make([]int, 10)
	for _, i := range s.tables[0].slots {
		n[i]++
	}
	for i, c := range n {
		want := 1. / 14
		if i == 0 {
			want = 5. / 14
		}
		within(t, eps[i].Key, c, 65537, want, 0.001)
	}
	for n, want := range map[uint64]uint64{0: 2, 2: 2, 4: 5, 1009: 1009, 65536: 65537, 5000011: 5000011} {
		if got := nextPrime(n); got != want {
			t.Errorf("nextPrime(%d) = %d, want %d", n, got, want)
		}
	}
}

// TestTablesAreReused: equal endpoints behind new pointers, or a change that the
// table does not depend on, build nothing.
func TestTablesAreReused(t *testing.T) {
	for _, p := range hashPolicies() {
		s := NewSet(p, endpoints(5), nil)
		same := NewSet(p, endpoints(5), s)
		if &same.tables[0].slots[0] != &s.tables[0].slots[0] {
			t.Error("an equal table was built again")
		}
		if e := same.Pick(7, nil, 0); e.Key != s.Pick(7, nil, 0).Key || e == s.Pick(7, nil, 0) {
			t.Error("a reused table gives endpoints of the old set")
		}
		for what, change := range map[string]func([]*Endpoint){
			"weight": func(e []*Endpoint) { e[0].Weight = 2 },
			"health": func(e []*Endpoint) { e[0].Health = Unhealthy },
			"key":    func(e []*Endpoint) { e[0].Key = "x" },
		} {
			eps := endpoints(5)
			change(eps)
			if o := NewSet(p, eps, s); &o.tables[0].slots[0] == &s.tables[0].slots[0] {
				t.Errorf("the table was reused after a change of %s", what)
			}
		}
		q := p
		q.RingMin, q.TableSize = 77, 101
		if o := NewSet(q, endpoints(5), s); &o.tables[0].slots[0] == &s.tables[0].slots[0] {
			t.Error("the table was reused after a change of its size")
		}
	}
}
