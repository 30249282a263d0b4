package jwt

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestCacheHoldsTheClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := build(t, nil, basic())
		tok := sign("ES256", ecKey, "e", good(m{"exp": time.Now().Unix() + 100}))
		if res := check(t, a, bearer(tok)); res.Status != 0 {
			t.Fatal(res.Body)
		}
		time.Sleep(159 * time.Second)
		if res := check(t, a, bearer(tok)); res.Status != 0 {
			t.Errorf("within skew: %s", res.Body)
		}
		time.Sleep(3 * time.Second)
		if res := check(t, a, bearer(tok)); res.Body != "Jwt is expired" {
			t.Errorf("a cached token outlived exp: %d %s", res.Status, res.Body)
		}
		if n := a.providers[0].cache.len(); n != 0 {
			t.Errorf("%d expired entries stay", n)
		}
	})
}

func TestCacheIsBounded(t *testing.T) {
	var c cache
	ks, other := &keySet{}, &keySet{}
	v := &verified{}
	for i := range 3 * cacheSize {
		sum := [32]byte{byte(i), byte(i >> 8), byte(i >> 16)}
		c.put(ks, &sum, v)
	}
	if n := c.len(); n > cacheSize {
		t.Errorf("%d entries, want at most %d", n, cacheSize)
	}
	first, last := [32]byte{}, [32]byte{0xff, 0x2f}
	if c.get(ks, &first) != nil || c.get(ks, &last) == nil {
		t.Error("the wrong entries went")
	}
	if c.get(other, &last) != nil {
		t.Error("an entry of other keys was served")
	}
	c.put(other, &first, v)
	if c.len() != 1 {
		t.Errorf("rotation left %d entries", c.len())
	}
	a := build(t, nil, basic())
	tok := sign("ES256", ecKey, "e", good(m{"pad": strings.Repeat("x", maxCached)}))
	if res := check(t, a, bearer(tok)); res.Status != 0 || a.providers[0].cache.len() != 0 {
		t.Errorf("a long token was refused or cached: %s", res.Body)
	}
}

func TestHitDoesNotAllocate(t *testing.T) {
	two := basic()
	two.Name, two.Issuer, two.ClaimHeaders = "q", "second", []ClaimHeader{{"x-sub", "sub"}}
	two.FromCookies = []string{"session"}
	two.FromParams = []string{"access_token"}
	a := build(t, nil, basic(), two)
	tok := sign("ES256", ecKey, "e", good(m{"iss": "second"}))
	r := request("cookie: a=b; session=" + tok)
	r.Query, r.HasQuery = "access_token="+tok, true
	var res Result
	ctx := t.Context()
	for range 2 {
		if a.Check(ctx, r, &res); res.Status != 0 || res.Claims == nil {
			t.Fatal(res.Body)
		}
	}
	if n := testing.AllocsPerRun(100, func() { a.Check(ctx, r, &res) }); n != 0 {
		t.Errorf("a hit allocates %v times", n)
	}
	r = request()
	if n := testing.AllocsPerRun(100, func() { a.Check(ctx, r, &res) }); n != 0 {
		t.Errorf("a request without token allocates %v times", n)
	}
}

func BenchmarkHit(b *testing.B) {
	a := build(b, nil, basic())
	r := bearer(sign("RS256", rsaKey, "r", good(nil)))
	var res Result
	b.ReportAllocs()
	for b.Loop() {
		a.Check(b.Context(), r, &res)
	}
}

func BenchmarkMissRS256(b *testing.B) {
	a := build(b, nil, basic())
	tok := sign("RS256", rsaKey, "r", good(nil))
	r := bearer(tok)
	var res Result
	for b.Loop() {
		a.providers[0].cache.keys = nil
		a.Check(b.Context(), r, &res)
	}
}
