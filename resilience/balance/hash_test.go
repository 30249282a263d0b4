package balance

import (
	"math/bits"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"

	"waypoint.dev/waypoint/internal/attrs"
)

func request(lines ...string) *attrs.Request {
	r := &attrs.Request{
		Conn:      &attrs.Conn{Source: netip.MustParseAddrPort("10.1.2.3:4567")},
		Authority: "cart", Method: "GET", Path: "/p", Query: "a=1&user=u7", HasQuery: true,
	}
	for _, l := range lines {
		k, v, _ := strings.Cut(l, ": ")
		r.Headers = append(r.Headers, attrs.Field{Name: k, Value: v})
	}
	return r
}

func TestHashKey(t *testing.T) {
	x := xxhash.Sum64String
	mix := func(a, b uint64) uint64 { return bits.RotateLeft64(a, 1) ^ b }
	sid := HashSource{Cookie: &HashCookie{Name: "sid"}}
	for _, c := range []struct {
		name    string
		sources []HashSource
		req     *attrs.Request
		want    uint64
	}{
		{"none", nil, request(), 0},
		{"header", []HashSource{{Header: "x-user"}}, request("x-user: bob"), x("bob")},
		{"header absent", []HashSource{{Header: "x-user"}}, request("x-users: bob"), 0},
		{"header twice", []HashSource{{Header: "x-user"}}, request("x-user: a", "x-user: b"), mix(x("a"), x("b"))},
		{"authority", []HashSource{{Header: ":authority"}}, request(), x("cart")},
		{"method", []HashSource{{Header: ":method"}}, request(), x("GET")},
		{"path", []HashSource{{Header: ":path"}}, request(), x("/p?a=1&user=u7")},
		{"cookie", []HashSource{sid}, request("cookie: a=1; sid=42; b=2"), x("42")},
		{"cookie quoted", []HashSource{sid}, request(`cookie: sid="42"`), x("42")},
		{"cookie second line", []HashSource{sid}, request("cookie: a=1", "cookie: sid=42"), x("42")},
		{"cookie of longer name", []HashSource{sid}, request("cookie: xsid=1; sidx=2; sid"), 0},
		{"cookie empty", []HashSource{sid}, request("cookie: sid="), 0},
		{"source", []HashSource{{SourceIP: true}}, request("x-forwarded-for: 9.9.9.9"), x("10.1.2.3")},
		{"query", []HashSource{{Query: "user"}}, request(), x("u7")},
		{"query absent", []HashSource{{Query: "none"}}, request(), 0},
		{"two", []HashSource{{Query: "user"}, {SourceIP: true}}, request(), mix(x("u7"), x("10.1.2.3"))},
		{"terminal", []HashSource{{Query: "user", Terminal: true}, {SourceIP: true}}, request(), x("u7")},
		{"terminal absent", []HashSource{{Query: "none", Terminal: true}, {SourceIP: true}}, request(), x("10.1.2.3")},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, set := HashKey(c.sources, c.req, nil)
			if got != c.want || set.Needed() {
				t.Errorf("hash %x, cookie %v; want %x", got, set.Needed(), c.want)
			}
		})
	}
	if h, _ := HashKey([]HashSource{{SourceIP: true}}, &attrs.Request{}, nil); h != 0 {
		t.Error("a request without a connection has a source")
	}
}

func TestHashCookieIsMade(t *testing.T) {
	for _, c := range []struct {
		cookie HashCookie
		want   string
	}{
		{HashCookie{Name: "sid", Create: true, TTL: time.Minute}, `sid="00000000000000ab"; Max-Age=60; HttpOnly`},
		{HashCookie{Name: "sid", Create: true, Path: "/x"}, `sid="00000000000000ab"; Path=/x; HttpOnly`},
		{HashCookie{Name: "s", Create: true, TTL: 90 * time.Second, Path: "/", Attributes: []CookieAttribute{{"SameSite", "Strict"}, {"Secure", ""}}},
			`s="00000000000000ab"; Max-Age=90; Path=/; SameSite=Strict; Secure; HttpOnly`},
	} {
		sources := []HashSource{{Cookie: &c.cookie}}
		hash, set := HashKey(sources, request(), func() uint64 { return 0xab })
		if !set.Needed() {
			t.Fatal("no cookie")
		}
		if got := string(set.Append(nil)); got != c.want {
			t.Errorf("set-cookie %s\nwant       %s", got, c.want)
		}
		// The next request brings it back and must land on the same place.
		again, set := HashKey(sources, request("cookie: "+c.cookie.Name+"=00000000000000ab"), nil)
		if again != hash || set.Needed() {
			t.Errorf("the cookie leads to %x, its making to %x", again, hash)
		}
	}
	if got := (NewCookie{}).Append(nil); len(got) != 0 {
		t.Errorf("no cookie is written as %q", got)
	}
}
