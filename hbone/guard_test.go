package hbone

import (
	"errors"
	"net/netip"
	"testing"
)

func TestGuard(t *testing.T) {
	g := &Guard{Self: []netip.Addr{netip.MustParseAddr("10.9.9.9"), netip.MustParseAddr("2001:db8::99")}}
	for _, s := range []string{"10.0.0.1", "192.168.1.1", "8.8.8.8", "2001:db8::1", "fd00::1", "::ffff:10.0.0.1", "64:ff9b::a00:1"} {
		if err := g.Check(netip.MustParseAddr(s)); err != nil {
			t.Errorf("%s: %v", s, err)
		}
	}
	for _, s := range []string{
		"127.0.0.1", "127.8.8.8", "0.0.0.0", "0.1.2.3", "169.254.169.254", "224.0.0.1", "255.255.255.255", "10.9.9.9",
		"::", "::1", "fe80::1", "fe80::1%eth0", "2001:db8::1%eth0", "ff02::1", "2001:db8::99", "fd00:ec2::254", "fd20:ce::254",
		"fd00:c1::a9fe:a9fe", "100.100.100.200", "168.63.129.16", "64:ff9b::a83f:8110",
		"::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:10.9.9.9", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe",
		"2002:7f00:1::", "2002:a09:909::1",
	} {
		if err := g.Check(netip.MustParseAddr(s)); !errors.Is(err, ErrForbidden) {
			t.Errorf("%s: %v, want ErrForbidden", s, err)
		}
	}
	if err := g.Check(netip.Addr{}); err == nil {
		t.Error("the zero address passed")
	}
	g.Permit = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	if err := g.Check(netip.MustParseAddr("127.0.0.1")); err != nil {
		t.Errorf("permitted: %v", err)
	}
	if err := g.Check(netip.MustParseAddr("169.254.1.1")); err == nil {
		t.Error("an exception opened more than itself")
	}
}
