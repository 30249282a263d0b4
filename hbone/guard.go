package hbone

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// ErrForbidden is wrapped by the errors of [Guard.Check].
var ErrForbidden = errors.New("hbone: address is not allowed as a destination")

// Guard decides on addresses that a client chose (passthrough, dynamic DNS). It
// refuses loopback, link-local, the metadata services of clouds, multicast, broadcast, unspecified ones and the waypoint itself, however spelt. Addresses
// from configuration need no guard. The zero value knows no address of its own.
type Guard struct {
	Self   []netip.Addr   // the waypoint's own addresses
	Permit []netip.Prefix // exceptions, taken before everything else
}

// Prefixes that embed an IPv4 address, and where it stands in their 16 bytes.
var embedded = []struct {
	prefix netip.Prefix
	at     int
}{
	{netip.MustParsePrefix("::/96"), 12},        // IPv4-compatible, RFC 4291 section 2.5.5.1
	{netip.MustParsePrefix("64:ff9b::/96"), 12}, // NAT64, RFC 6052
	{netip.MustParsePrefix("2002::/16"), 2},     // 6to4, RFC 3056
}

var (
	thisNet   = netip.MustParsePrefix("0.0.0.0/8") // RFC 1122 section 3.2.1.3
	broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})
)

// metadata is where clouds serve an instance its credentials outside of the link-local
// range, as their documentation of it says.
var metadata = []netip.Addr{
	netip.MustParseAddr("fd00:ec2::254"),      // AWS IMDS
	netip.MustParseAddr("fd20:ce::254"),       // Google Cloud
	netip.MustParseAddr("fd00:c1::a9fe:a9fe"), // Oracle Cloud
	netip.MustParseAddr("100.100.100.200"),    // Alibaba Cloud
	netip.MustParseAddr("168.63.129.16"),      // Azure WireServer
}

// Check returns nil if addr may be dialed.
func (g *Guard) Check(addr netip.Addr) error {
	addr = addr.Unmap()
	for _, p := range g.Permit {
		if p.Contains(addr) {
			return nil
		}
	}
	if !g.allowed(addr) {
		return fmt.Errorf("%w: %v", ErrForbidden, addr)
	}
	for _, e := range embedded {
		if addr.Is6() && e.prefix.Contains(addr) {
			b := addr.As16()
			if v4 := netip.AddrFrom4([4]byte(b[e.at : e.at+4])); !g.allowed(v4) {
				return fmt.Errorf("%w: %v", ErrForbidden, addr)
			}
		}
	}
	return nil
}

func (g *Guard) allowed(a netip.Addr) bool {
	return a.IsValid() && a.Zone() == "" &&
		!a.IsUnspecified() && !a.IsLoopback() && !a.IsMulticast() &&
		!a.IsLinkLocalUnicast() && !slices.Contains(metadata, a) &&
		!(a.Is4() && thisNet.Contains(a)) && a != broadcast &&
		!slices.ContainsFunc(g.Self, func(s netip.Addr) bool { return s.Unmap() == a })
}
