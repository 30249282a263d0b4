package proxy

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestSplitAuthority(t *testing.T) {
	for _, tt := range []struct {
		in, host string
		port     uint16
		ok       bool
	}{
		{"a.example.com", "a.example.com", 80, true},
		{"A.Example.COM.", "a.example.com", 80, true},
		{"a.example.com:8080", "a.example.com", 8080, true},
		{"[fd00::1]:443", "[fd00::1]", 443, true},
		{"[fd00::1]", "[fd00::1]", 80, true},
		{"", "", 0, false},
		{":80", "", 0, false},
		{".", "", 0, false},
		{"a:", "", 0, false},
		{"a:0", "", 0, false},
		{"a:65536", "", 0, false},
		{"a:+1", "", 0, false},
		{strings.Repeat("a", 254), "", 0, false},
	} {
		if host, port, ok := splitAuthority(tt.in, 80); ok != tt.ok || ok && (host != tt.host || port != tt.port) {
			t.Errorf("%q: %q %d %v", tt.in, host, port, ok)
		}
	}
}

func FuzzSplitAuthority(f *testing.F) {
	for _, s := range []string{"a.b:80", "[::1]:80", "a", ":", "a:99999"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if host, port, ok := splitAuthority(s, 80); ok && (host == "" || len(host) > maxHostname || port == 0 || host != strings.ToLower(host)) {
			t.Errorf("%q: %q %d", s, host, port)
		}
	})
}

func TestMatchesHost(t *testing.T) {
	for _, tt := range []struct {
		pattern, name string
		want          bool
	}{
		{"*.example.com", "a.example.com", true},
		{"*.example.com", "a.b.example.com", true},
		{"*.example.com", "A.EXAMPLE.com", true},
		{"*.example.com", ".example.com", false},
		{"*.example.com", "example.com", false},
		{"*.example.com", "aexample.com", false},
		{"*.example.com", "a.example.com.evil", false},
		{"*", "anything", true},
		{"a.example.com", "a.example.com", true},
		{"a.example.com", "b.example.com", false},
	} {
		if got := matchesHost(tt.pattern, tt.name); got != tt.want {
			t.Errorf("%s %s: %v", tt.pattern, tt.name, got)
		}
	}
}

// TestDynamicSetIsBounded asks for more names than are kept: the endpoint of one that
// is wanted stays the same, and those that make room close their connections.
func TestDynamicSetIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit = 8
		var s dynamicSet
		wanted := s.get("wanted", 80, limit)
		first := s.get("first", 80, limit)
		for i := range 100 {
			time.Sleep(time.Millisecond)
			if s.get("wanted", 80, limit) != wanted {
				t.Fatal("a name that is wanted was forgotten")
			}
			s.get(fmt.Sprintf("n%d", i), 80, limit)
			if len(s.m) > limit {
				t.Fatalf("%d names are kept", len(s.m))
			}
		}
		if !first.Host.Gone.Load() || wanted.Host.Gone.Load() {
			t.Error("the wrong endpoints are gone")
		}
		if s.get("wanted", 443, limit) == wanted {
			t.Error("another port is another endpoint")
		}
		// Names that nobody wants go by themselves at the next new one, but for those
		// with requests under way.
		wanted.Host.Active.Add(1)
		time.Sleep(dynamicTTL)
		s.get("late", 80, limit)
		if len(s.m) != 2 || s.m["wanted:80"] == nil {
			t.Errorf("%d names are left", len(s.m))
		}
	})
}

func TestDynamicSetAllocates(t *testing.T) {
	var s dynamicSet
	s.get("a.example.com", 80, 8)
	if n := testing.AllocsPerRun(100, func() { s.get("a.example.com", 80, 8) }); n != 0 {
		t.Errorf("%v allocations for a name that is known", n)
	}
}
