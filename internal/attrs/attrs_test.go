package attrs

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestHeader(t *testing.T) {
	r := &Request{Headers: []Field{{"a", "1"}, {"b", ""}, {"a", "2"}}}
	for name, want := range map[string]struct {
		v  string
		ok bool
	}{"a": {"1", true}, "b": {"", true}, "c": {"", false}, "A": {"", false}} {
		if v, ok := r.Header(name); v != want.v || ok != want.ok {
			t.Errorf("%s = %q %v", name, v, ok)
		}
	}
}

func TestQueryParam(t *testing.T) {
	for _, tt := range []struct {
		query, name, want string
		ok                bool
	}{
		{"a=1&b=2", "a", "1", true},
		{"a=1&b=2", "b", "2", true},
		{"a=1&a=2", "a", "1", true},
		{"a", "a", "", true},
		{"a=", "a", "", true},
		{"a=b=c", "a", "b=c", true},
		{"a=%20+x", "a", "%20+x", true},
		{"%61=1", "a", "", false},
		{"A=1", "a", "", false},
		{"", "a", "", false},
		{"", "", "", false},
		{"&&a=1", "a", "1", true},
		{"&&", "", "", false},
		{"=x", "", "x", true},
	} {
		r := &Request{Query: tt.query}
		if v, ok := r.QueryParam(tt.name); v != tt.want || ok != tt.ok {
			t.Errorf("%q in %q = %q %v, want %q %v", tt.name, tt.query, v, ok, tt.want, tt.ok)
		}
	}
}

func TestLookupsDoNotAllocate(t *testing.T) {
	r := &Request{Query: "x=1&y=2&z=3", Headers: []Field{{"a", "1"}, {"b", "2"}}}
	if n := testing.AllocsPerRun(100, func() { r.Header("b"); r.QueryParam("z") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
