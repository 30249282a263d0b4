package authz

import (
	"strings"
	"testing"

	"github.com/gobwas/glob"
	"pgregory.net/rapid"
)

// Patterns are compiled to comparisons of their literals, which costs less than a
// general matcher; they decide as one does. The namespaces field takes a * anywhere,
// the other fields at one end. gobwas/glob itself must not decide: it lets "b*b" match
// "b", whose one b it counts twice, so it is asked of values that have room only.
func TestWildcardsEqualGlob(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pattern := rapid.StringMatching(`[ab*-]{1,8}`).Draw(t, "pattern")
		want := glob.MustCompile(pattern)
		literals := len(pattern) - strings.Count(pattern, "*")
		parts := namespaceWildcard(pattern)
		for range 8 {
			s := rapid.StringMatching(`[ab-]{0,10}`).Draw(t, "value")
			if got := parts.match(s); got != (len(s) >= literals && want.Match(s)) {
				t.Fatalf("%q on %q: %v", pattern, s, got)
			}
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		literal := rapid.StringMatching(`[ab]{1,4}`).Draw(t, "literal")
		pattern := rapid.SampledFrom([]string{literal, literal + "*", "*" + literal}).Draw(t, "pattern")
		m, err := Wildcard(pattern).compile()
		if err != nil {
			t.Fatal(err)
		}
		want := glob.MustCompile(pattern)
		for range 8 {
			s := rapid.StringMatching(`[ab]{0,6}`).Draw(t, "value")
			if got := m.match(s); got != want.Match(s) {
				t.Fatalf("%q on %q: %v", pattern, s, got)
			}
		}
	})
}
