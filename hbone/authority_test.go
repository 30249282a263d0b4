package hbone

import (
	"errors"
	"net/netip"
	"strconv"
	"strings"
	"testing"
)

func TestParseAuthority(t *testing.T) {
	label := strings.Repeat("a", 63)
	for _, tt := range []struct {
		in   string
		addr string // of an address, with port
		host string
		port uint16
	}{
		{in: "10.1.2.3:8080", addr: "10.1.2.3:8080", port: 8080},
		{in: "[2001:db8::1]:80", addr: "[2001:db8::1]:80", port: 80},
		{in: "[::ffff:10.0.0.1]:80", addr: "10.0.0.1:80", port: 80},
		{in: "cart.shop.svc.cluster.local:80", host: "cart.shop.svc.cluster.local", port: 80},
		{in: "CART.Shop.:443", host: "cart.shop", port: 443},
		{in: "under_score.example:1", host: "under_score.example", port: 1},
		{in: "a:65535", host: "a", port: 65535},
		{in: "1a.b2:1", host: "1a.b2", port: 1},
		{in: "a0.b9.c:1", host: "a0.b9.c", port: 1},
		{in: "aZ.zA:1", host: "az.za", port: 1},
		{in: strings.Repeat("a.", 126) + "b:1", host: strings.Repeat("a.", 126) + "b", port: 1}, // 253 octets
		{in: strings.Repeat("a.", 126) + "b.:1", host: strings.Repeat("a.", 126) + "b", port: 1},
		{in: label + ".x:1", host: label + ".x", port: 1},
	} {
		addr, host, port, err := ParseAuthority(tt.in)
		want := netip.AddrPort{}
		if tt.addr != "" {
			want = netip.MustParseAddrPort(tt.addr)
		}
		if err != nil || addr != want || host != tt.host || port != tt.port {
			t.Errorf("ParseAuthority(%q) = %v, %q, %d, %v", tt.in, addr, host, port, err)
		}
	}
	for _, in := range []string{
		"", ":", ":80", "10.1.2.3", "10.1.2.3:", "10.1.2.3:0", "10.1.2.3:65536", "10.1.2.3:080", "10.1.2.3:+80",
		"10.1.2.3:8o", "10.1.2.3:80:80", "2001:db8::1:80", "[2001:db8::1]", "[2001:db8::1]80", "[10.1.2.3]:80",
		"[fe80::1%eth0]:80", "[]:80", "[:80", "]:80", "host", "host:", "host:http", "ho st:80", "host/:80", "u@host:80",
		"host..x:80", ".host:80", "-host:80", "host-:80", "a.-b:80", "a-.b:80", "%68ost:80", "h\x00:80", "höst:80",
		"127.1:80", "0x7f.1:80", "2130706433:80", "a.0x1:80", "10.1.2.3.:80", "010.1.2.3:80", "256.1.1.1:80", ".:80",
		label + "a:1", "host/.x:80", "host@.x:80", "host[.x:80", "host`.x:80", "host{.x:80", "host;x:80", "[x]:80", "[::1:80", "10.1.2.3:8/", "10.1.2.3:8;", strings.Repeat("a.", 126) + "bb:1", strings.Repeat("a.", 127) + "b:1",
	} {
		if addr, host, port, err := ParseAuthority(in); !errors.Is(err, ErrAuthority) || addr.IsValid() || host != "" {
			t.Errorf("ParseAuthority(%q) = %v, %q, %d, %v; want ErrAuthority", in, addr, host, port, err)
		}
	}
}

func FuzzParseAuthority(f *testing.F) {
	for _, s := range []string{"10.1.2.3:80", "[::1]:1", "a.b:2", "127.1:80", "[::ffff:1.2.3.4]:9"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		addr, host, port, err := ParseAuthority(s)
		if err != nil {
			if addr.IsValid() || host != "" {
				t.Fatalf("%q: values beside %v", s, err)
			}
			return
		}
		if port == 0 || addr.IsValid() == (host != "") {
			t.Fatalf("%q: %v, %q, %d", s, addr, host, port)
		}
		again := host + ":" + strconv.Itoa(int(port))
		if addr.IsValid() {
			again = addr.String()
		}
		a2, h2, p2, err := ParseAuthority(again)
		if err != nil || a2 != addr || h2 != host || p2 != port {
			t.Fatalf("%q -> %q -> %v, %q, %d, %v", s, again, a2, h2, p2, err)
		}
		if _, err := netip.ParseAddr(host); err == nil {
			t.Fatalf("%q: host %q is an address", s, host)
		}
	})
}

func TestParseDoesNotAllocate(t *testing.T) {
	for _, s := range []string{"10.1.2.3:80", "[2001:db8::1]:80", "cart.shop.svc.cluster.local:80", "1a.b:80"} {
		if n := testing.AllocsPerRun(100, func() { _, _, _, _ = ParseAuthority(s) }); n != 0 {
			t.Errorf("ParseAuthority(%q) allocates %v times", s, n)
		}
	}
	bag := "k8s.cluster.name=c,k8s.namespace.name=n,k8s.deployment.name=d,service.name=s"
	if n := testing.AllocsPerRun(100, func() { ParseBaggage(bag) }); n != 0 {
		t.Errorf("ParseBaggage allocates %v times", n)
	}
}

func BenchmarkParseAuthority(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		_, _, _, _ = ParseAuthority("cart.shop.svc.cluster.local:80")
	}
}
