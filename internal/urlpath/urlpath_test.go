package urlpath

import (
	"strings"
	"testing"
)

// Istio's table of path normalization: one column a mode.
func TestNormalizeTable(t *testing.T) {
	tests := []struct{ in, base, merge, decode string }{
		{"/app/../admin", "/admin", "/admin", "/admin"},
		{"/app/%2E./admin", "/admin", "/admin", "/admin"},
		{"/app//", "/app//", "/app/", "/app/"},
		{"/app/%2f", "/app/%2f", "/app/%2f", "/app/"},
		{"/app%2f/", "/app%2f/", "/app%2f/", "/app/"},
		{"/xyz%30..//abc", "/xyz0..//abc", "/xyz0../abc", "/xyz0../abc"},
		{`/app\admin`, "/app/admin", "/app/admin", "/app/admin"},
		{`/app/\/\/\admin`, "/app//////admin", "/app/admin", "/app/admin"},
		{"/%2Fapp%5cadmin%5Cabc", "/%2Fapp%5cadmin%5Cabc", "/%2Fapp%5cadmin%5Cabc", "/app/admin/abc"},
		{`/%5Capp%2f%5c%2F%2e%2e%2fadmin%5c\abc`, "/%5Capp%2f%5c%2F..%2fadmin%5c/abc", "/%5Capp%2f%5c%2F..%2fadmin%5c/abc", "/app/admin/abc"},
		{"/app//../admin", "/app/admin", "/app/admin", "/app/admin"},
		{"/app//../../admin", "/admin", "/admin", "/admin"},
		{"/%c0%2fadmin", "/%c0%2fadmin", "/%c0%2fadmin", "/%c0/admin"},
		{"/%252e%252e/admin", "/%252e%252e/admin", "/%252e%252e/admin", "/%252e%252e/admin"},
		{"/..;/admin", "/admin", "/admin", "/admin"},
		{"/a/..;x=1/b", "/b", "/b", "/b"},
		{"/a/.;x/b", "/a/b", "/a/b", "/a/b"},
		{"/a/..;", "/", "/", "/"},
		{"/a/.;", "/a/", "/a/", "/a/"},
		{"/a/..;;/b", "/b", "/b", "/b"},
		{"/a/b/..;/..;/c", "/c", "/c", "/c"},
		{"/a/%2e%2E;v/b", "/b", "/b", "/b"},
		{`/a\..;\b`, "/b", "/b", "/b"},
		{"/a/..;x=%2f/b", "/b", "/b", "/b"},
		{"/a/..%3b/b", "/a/..%3b/b", "/a/..%3b/b", "/a/..%3b/b"},
		{"/a/...;/b", "/a/...;/b", "/a/...;/b", "/a/...;/b"},
		{"/a/b..;/c", "/a/b..;/c", "/a/b..;/c", "/a/b..;/c"},
		{"/a/;../b", "/a/;../b", "/a/;../b", "/a/;../b"},
		{"/admin;a=b", "/admin;a=b", "/admin;a=b", "/admin;a=b"},
		{"/.../admin", "/.../admin", "/.../admin", "/.../admin"},
		{"/%c0%ae%c0%ae/admin", "/%c0%ae%c0%ae/admin", "/%c0%ae%c0%ae/admin", "/%c0%ae%c0%ae/admin"},
		{"/ADMIN", "/ADMIN", "/ADMIN", "/ADMIN"},
		{"/", "/", "/", "/"},
		{"/.", "/", "/", "/"},
		{"/..", "/", "/", "/"},
		{"/../..", "/", "/", "/"},
		{"/a/.", "/a/", "/a/", "/a/"},
		{"/a/..", "/", "/", "/"},
		{"/a/b/..", "/a/", "/a/", "/a/"},
		{"/a/./b", "/a/b", "/a/b", "/a/b"},
		{"/a/.b", "/a/.b", "/a/.b", "/a/.b"},
		{"/a/..b", "/a/..b", "/a/..b", "/a/..b"},
		{"/a.b./c", "/a.b./c", "/a.b./c", "/a.b./c"},
		{"/%41%7e%2D", "/A~-", "/A~-", "/A~-"},
		{"/a b", "/a%20b", "/a%20b", "/a%20b"},
		{"/a\"<>^`{|}", "/a%22%3C%3E%5E%60%7B%7C%7D", "/a%22%3C%3E%5E%60%7B%7C%7D", "/a%22%3C%3E%5E%60%7B%7C%7D"},
		{"/a[0]", "/a[0]", "/a[0]", "/a[0]"},
		{"/é", "/%C3%A9", "/%C3%A9", "/%C3%A9"},
		{"/100%", "/100%", "/100%", "/100%"},
		{"/%zz", "/%zz", "/%zz", "/%zz"},
		{"/%%32e%%32e/admin", "/%252e%252e/admin", "/%252e%252e/admin", "/%252e%252e/admin"},
		{"/%2%65", "/%252e", "/%252e", "/%252e"},
		{"/%%32%65", "/%252e", "/%252e", "/%252e"},
		{"/%%32z", "/%2z", "/%2z", "/%2z"},
		{"//", "//", "/", "/"},
		{"/a%2f..%2fb", "/a%2f..%2fb", "/a%2f..%2fb", "/b"},
		{"/%2e%2e%2fa", "/..%2fa", "/..%2fa", "/a"},
	}
	for _, tt := range tests {
		for mode, want := range map[Mode]string{None: tt.in, Base: tt.base, MergeSlashes: tt.merge, DecodeAndMergeSlashes: tt.decode} {
			got, ok, changed := Normalize(make([]byte, 0, 3*len(tt.in)), tt.in, mode)
			if got != want || !ok || changed != (want != tt.in) {
				t.Errorf("Normalize(%q, %d) = %q, ok %v, changed %v; want %q", tt.in, mode, got, ok, changed, want)
			}
		}
	}
}

func TestNormalizeRefuses(t *testing.T) {
	for _, in := range []string{"", "*", "a/b", "/admin%00", "/a\x00"} {
		for _, mode := range []Mode{Base, MergeSlashes, DecodeAndMergeSlashes} {
			if out, ok, _ := Normalize(nil, in, mode); ok {
				t.Errorf("Normalize(%q, %d) = %q, want it refused", in, mode, out)
			}
		}
	}
}

func TestNormalizeDoesNotAllocate(t *testing.T) {
	buf := make([]byte, 0, 512)
	for _, in := range []string{"/api/v1/users", `/a/%2e%2e/b\c//d é`} {
		if n := testing.AllocsPerRun(100, func() { Normalize(buf, in, DecodeAndMergeSlashes) }); n != 0 {
			t.Errorf("Normalize(%q) allocates %v times", in, n)
		}
	}
}

func FuzzNormalize(f *testing.F) {
	for _, s := range []string{"/a/../b", "/%2e%2e/%5c..%2f", `/\..\/x`, "/%%32e", "/a//./..//b", "/\xff%ff", "/%"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		for _, mode := range []Mode{None, Base, MergeSlashes, DecodeAndMergeSlashes} {
			out, ok, changed := Normalize(nil, in, mode)
			if changed != (out != in) {
				t.Fatalf("mode %d: %q -> %q, changed %v", mode, in, out, changed)
			}
			if !ok {
				if changed {
					t.Fatalf("mode %d: refused %q but changed it", mode, in)
				}
				continue
			}
			if mode == None {
				if out != in {
					t.Fatalf("None changed %q to %q", in, out)
				}
				continue
			}
			if out[0] != '/' {
				t.Fatalf("mode %d: %q -> %q", mode, in, out)
			}
			again, ok, _ := Normalize(nil, out, mode)
			if !ok || again != out {
				t.Fatalf("mode %d: %q -> %q -> %q, ok %v: not idempotent", mode, in, out, again, ok)
			}
			for _, seg := range strings.Split(out, "/") {
				if seg, _, _ = strings.Cut(seg, ";"); seg == "." || seg == ".." {
					t.Fatalf("mode %d: %q -> %q keeps a dot segment", mode, in, out)
				}
			}
			if mode != Base && strings.Contains(out, "//") {
				t.Fatalf("mode %d: %q -> %q keeps two slashes", mode, in, out)
			}
			if lower := strings.ToLower(out); mode == DecodeAndMergeSlashes && (strings.Contains(lower, "%2f") || strings.Contains(lower, "%5c")) {
				t.Fatalf("%q -> %q keeps an encoded slash", in, out)
			}
			if strings.ContainsAny(out, "\\ \"<>^`{}?#") {
				t.Fatalf("mode %d: %q -> %q keeps a raw character", mode, in, out)
			}
		}
	})
}

func BenchmarkNormalizeClean(b *testing.B) {
	var buf [256]byte
	for b.Loop() {
		Normalize(buf[:0], "/api/v1/projects/shop/items/12345", Base)
	}
}

func BenchmarkNormalizeDirty(b *testing.B) {
	var buf [256]byte
	for b.Loop() {
		Normalize(buf[:0], "/api/v1/../v2/%41//items", MergeSlashes)
	}
}
