package routing

import "testing"

func TestTemplate(t *testing.T) {
	for _, tt := range []struct {
		template string
		yes, no  []string
	}{
		{"/store/{**}/cart", []string{"/store//cart", "/store/foo/cart", "/store/foo/bar/cart"}, []string{"/store/cart"}},
		{"/foo/{*}", []string{"/foo/bar", "/foo/a%2Fb", "/foo/a;v=1", "/foo/*"}, []string{"/foo/", "/foo/bar/baz", "/foo//bar", "/foo/a[0]"}},
		{"/foo/{**}/", []string{"/foo/bar/", "/foo//"}, []string{"/foo/bar", "/foo/", "/foo/bar/baz.txt"}},
		{"/{**}", []string{"/", "/a", "/a/b/c/", "//"}, []string{"", "/a[0]"}},
		{"/{*}", []string{"/a"}, []string{"/", "/a/"}},
		{"/{*}/", []string{"/a/"}, []string{"/a"}},
		{"/{*}/{*}", []string{"/a/b"}, []string{"/a//b", "/a/"}},
		{"/{**}/health", []string{"//health", "/a/health", "/a/b/health"}, []string{"/health", "/a/health/", "/ahealth"}},
		{"/a.b/{*}", []string{"/a.b/x"}, []string{"/aXb/x"}},
		{"/api/{*}/{**}", []string{"/api/v1/foo/bar/baz/", "/api/v1/"}, []string{"/api/v1"}},
		{"/foo/{*}/bar/{**}", []string{"/foo/b/bar/"}, []string{"/foo//bar/x"}},
	} {
		tmpl, err := parseTemplate(tt.template)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range tt.yes {
			if !tmpl.MatchString(p) {
				t.Errorf("%s does not match %s", tt.template, p)
			}
		}
		for _, p := range tt.no {
			if tmpl.MatchString(p) {
				t.Errorf("%s matches %s", tt.template, p)
			}
		}
	}
	for _, bad := range []string{"", "{*}", "foo/{*}", "/{**}/{*}", "/{**}/{**}", "/a//{*}", "/{x}", "/{*}.txt", "/a*", "/a b/{*}", "/ö/{*}", "/{*"} {
		if _, err := parseTemplate(bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}
