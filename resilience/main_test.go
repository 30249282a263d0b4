package resilience

import (
	"net/netip"
	"testing"

	"go.uber.org/goleak"

	"waypoint.dev/waypoint/resilience/balance"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// hosts makes n endpoints with runtime state.
func hosts(n int) []*balance.Endpoint {
	out := make([]*balance.Endpoint, n)
	for i := range out {
		a := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 8080)
		out[i] = &balance.Endpoint{Key: a.String(), Addr: a, Host: new(balance.Host)}
	}
	return out
}
