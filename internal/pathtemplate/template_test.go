package pathtemplate

import (
	"regexp"
	"strings"
	"testing"
)

func TestMatch(t *testing.T) {
	tests := []struct {
		pattern, path string
		want          bool
	}{
		{"/foo/{*}", "/foo/bar", true},
		{"/foo/{*}", "/foo/", false},
		{"/foo/{*}", "/foo/a/b", false},
		{"/foo/{*}", "", false},
		{"/foo/{*}/bar/{**}", "/foo/x/bar/", true},
		{"/foo/{*}/bar/{**}", "/foo//bar/x", false},
		{"/{**}", "/", true},
		{"/{**}/h", "/h", false},
		{"/{**}/h", "//h", true},
		{"/a/{**}/b/c", "/a/b/c/b/c", true},
		{"/a/{**}/b/", "/a/x/b", false},
		{"/{*}/", "/a/", true},
		{"/a/{**}", "/a/[0]", false},
		{"/a/{*}", "/a/*", true},
		{"/a/{**}", "/a/\xc3\xa9", false},
	}
	for _, tt := range tests {
		p, err := Parse(tt.pattern)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Match(tt.path); got != tt.want {
			t.Errorf("%s matches %q: %v", tt.pattern, tt.path, got)
		}
	}
}

func TestMatchDoesNotAllocate(t *testing.T) {
	p, err := Parse("/foo/{*}/bar/{**}/end")
	if err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() { p.Match("/foo/abc/bar/x/y/z/end") }); n != 0 {
		t.Errorf("Match allocates %v times", n)
	}
}

// reference is the regular expression that Envoy builds from a template.
func reference(pattern string) *regexp.Regexp {
	const single = `a-zA-Z0-9\-._~%!$&'()+,;:@=*`
	q := regexp.QuoteMeta(pattern)
	q = strings.ReplaceAll(q, `\{\*\*\}`, "["+single+"/]*")
	q = strings.ReplaceAll(q, `\{\*\}`, "["+single+"]+")
	return regexp.MustCompile(`\A(?:` + q + `)\z`)
}

func FuzzTemplate(f *testing.F) {
	f.Add("/foo/{*}/bar/{**}", "/foo/a/bar/b/c")
	f.Add("/{**}/x/y", "/x/y/x/y")
	f.Add("/{*}/{*}/", "/a/*/")
	f.Add("/a/{**}", "/a/\xff")
	f.Fuzz(func(t *testing.T, pattern, path string) {
		p, err := Parse(pattern)
		if err != nil {
			return
		}
		if strings.Contains(pattern, "//") || pattern[0] != '/' {
			t.Fatalf("accepted %q", pattern)
		}
		// The reference treats any byte string as Latin-1, as Envoy does bytes.
		got, want := p.Match(path), reference(pattern).MatchString(strings.ToValidUTF8(path, "\u00e9"))
		if got != want {
			t.Fatalf("%q on %q: got %v, Envoy's expression says %v", pattern, path, got, want)
		}
		if got && !strings.HasPrefix(path, p.Prefix()) {
			t.Fatalf("%q matches %q without its prefix %q", pattern, path, p.Prefix())
		}
	})
}

func BenchmarkMatch(b *testing.B) {
	p, err := Parse("/api/{*}/projects/{*}/{**}/items")
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		p.Match("/api/v1/projects/shop/a/b/c/items")
	}
}
