package identity

import (
	"strings"
	"testing"

	"waypoint.dev/waypoint/internal/attrs"
)

func TestParse(t *testing.T) {
	long := "spiffe://td/ns/n/sa/" + strings.Repeat("a", maxURI)
	for _, tt := range []struct {
		uri  string
		want attrs.Principal
		bad  bool
	}{
		{uri: "spiffe://cluster.local/ns/shop/sa/cart", want: attrs.Principal{TrustDomain: "cluster.local", Namespace: "shop", ServiceAccount: "cart"}},
		{uri: "spiffe://p.svc.id.goog/ns/a-b/sa/x_1.y", want: attrs.Principal{TrustDomain: "p.svc.id.goog", Namespace: "a-b", ServiceAccount: "x_1.y"}},
		{uri: "", bad: true},
		{uri: "https://td/ns/a/sa/b", bad: true},
		{uri: "SPIFFE://td/ns/a/sa/b", bad: true},
		{uri: "spiffe:///ns/a/sa/b", bad: true},
		{uri: "spiffe://td/ns//sa/b", bad: true},
		{uri: "spiffe://td/ns/a/sa/", bad: true},
		{uri: "spiffe://td/ns/a/sa/b/c", bad: true},
		{uri: "spiffe://td/ns/a/b/sa/c", bad: true},
		{uri: "spiffe://td/x/ns/a/sa/b", bad: true},
		{uri: "spiffe://td/ns/a%2Fb/sa/c", bad: true},
		{uri: "spiffe://td/ns/../sa/c", bad: true},
		{uri: "spiffe://td:80/ns/a/sa/c", bad: true},
		{uri: "spiffe://u@td/ns/a/sa/c", bad: true},
		{uri: "spiffe://td/ns/a/sa/c?x", bad: true},
		{uri: "spiffe://td/workload/x", bad: true},
		{uri: long, bad: true},
	} {
		got, err := Parse(tt.uri)
		if tt.bad {
			if err == nil || got != (attrs.Principal{}) {
				t.Errorf("Parse(%.60q) = %+v, %v; want an error", tt.uri, got, err)
			}
			continue
		}
		tt.want.URI = tt.uri
		if err != nil || got != tt.want {
			t.Errorf("Parse(%q) = %+v, %v; want %+v", tt.uri, got, err, tt.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("spiffe://cluster.local/ns/shop/sa/cart")
	f.Add("spiffe://td/ns/a/sa/../b")
	f.Fuzz(func(t *testing.T, uri string) {
		p, err := Parse(uri)
		if err != nil {
			return
		}
		if URI(p.TrustDomain, p.Namespace, p.ServiceAccount) != uri || p.URI != uri {
			t.Fatalf("Parse(%q) = %+v does not lead back", uri, p)
		}
		if strings.ContainsAny(uri, "%?#@\x00 ") {
			t.Fatalf("Parse accepted %q", uri)
		}
	})
}

func TestParseDoesNotAllocate(t *testing.T) {
	uri := URI("cluster.local", "shop", "cart")
	if n := testing.AllocsPerRun(100, func() { _, _ = Parse(uri) }); n != 0 {
		t.Errorf("Parse allocates %v times", n)
	}
}
