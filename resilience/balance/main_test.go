package balance

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// seeded returns a random source that is the same in every run.
func seeded(seed uint64) func() uint64 {
	var mu sync.Mutex
	r := rand.New(rand.NewPCG(seed, 1))
	return func() uint64 {
		mu.Lock()
		defer mu.Unlock()
		return r.Uint64()
	}
}

// endpoints makes n healthy endpoints of weight 1.
func endpoints(n int) []*Endpoint {
	out := make([]*Endpoint, n)
	for i := range out {
		a := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 8080)
		out[i] = &Endpoint{Key: a.String(), Addr: a, Weight: 1}
	}
	return out
}

// counts picks n times and counts by endpoint.
func counts(t testing.TB, s *Set, n int) map[*Endpoint]int {
	t.Helper()
	out := make(map[*Endpoint]int)
	for range n {
		e := s.Pick(0, nil, 0)
		if e == nil {
			t.Fatal("nobody to pick")
		}
		out[e]++
	}
	return out
}

// within fails unless got is share*n, give or take slack*n.
func within(t testing.TB, what string, got, n int, share, slack float64) {
	t.Helper()
	if f := float64(got) / float64(n); f < share-slack || f > share+slack {
		t.Errorf("%s: share %.4f, want %.4f±%.4f", what, f, share, slack)
	}
}

func kinds() []Kind { return []Kind{LeastRequest, RoundRobin, Random, RingHash, Maglev, Passthrough} }

func (k Kind) name() string {
	return [...]string{"least_request", "round_robin", "random", "ring_hash", "maglev", "passthrough"}[k]
}

func name(k Kind, n int) string { return fmt.Sprintf("%s/%d", k.name(), n) }
