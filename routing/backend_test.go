package routing

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"waypoint.dev/waypoint/internal/attrs"
)

// filtered is a rule with filters of its own over four backends: one without, one with
// everything that forwards, one that redirects, one that does not exist.
func filtered() Rule {
	return Rule{
		Route: "shop/cart", Kind: "HTTPRoute", Name: "filtered",
		Matches: []Match{{Path: PathMatch{Kind: PathPrefix, Value: "/foo"}}},
		Filters: Filters{
			Request:  &HeaderOps{Set: []HeaderValue{{Name: "x-by", Value: "rule"}, {Name: "x-rule", Value: "1"}}},
			Response: &HeaderOps{Set: []HeaderValue{{Name: "x-by", Value: "rule"}, {Name: "x-rule", Value: "1"}}},
			Rewrite:  &Rewrite{Host: "rule.example", PrefixReplace: ptr("/rule")},
			Mirrors:  []Mirror{{Ref: 7}},
			CORS:     &CORS{AllowOrigins: []ValueMatch{{Value: "https://rule.example"}}},
		},
		Backends: []Backend{
			{Ref: 0, Weight: 1},
			{Ref: 1, Weight: 1, Filters: Filters{
				Request:  &HeaderOps{Set: []HeaderValue{{Name: "x-by", Value: "backend"}, {Name: "x-backend", Value: "1"}}},
				Response: &HeaderOps{Set: []HeaderValue{{Name: "x-by", Value: "backend"}, {Name: "x-backend", Value: "1"}}},
				Rewrite:  &Rewrite{PrefixReplace: ptr("/backend")},
				Mirrors:  []Mirror{{Ref: 8}, {Ref: -1, Invalid: "missing"}, {Ref: 9, Numerator: 1, Denominator: 2}},
				CORS:     &CORS{AllowOrigins: []ValueMatch{{Value: "https://backend.example"}}},
			}},
			{Ref: 2, Weight: 1, Redirect: &Redirect{Scheme: "https", Host: "new.example", Status: 301}},
			{Ref: -1, Weight: 1, Invalid: "service shop/nosuch not found", Redirect: &Redirect{}, Filters: Filters{CORS: &CORS{}}},
		},
	}
}

func TestBackendFilters(t *testing.T) {
	tab := mustCompile(t, []Rule{filtered()}, ByPrecedence)
	c := tab.Rules()[0]
	if !c.BackendCORS || mustCompile(t, []Rule{{Backends: []Backend{{Weight: 1}}, Filters: filtered().Filters}}, AsListed).Rules()[0].BackendCORS {
		t.Error("which rules have to pick a backend before preflights")
	}
	for i, want := range []struct {
		path, host, mirrors, origin, headers string
		redirect                             bool
	}{
		{"/rule/x", "rule.example", "[7]", "https://rule.example", "[{x-by rule} {x-rule 1}]", false},
		{"/backend/x", "rule.example", "[7 8 9]", "https://backend.example", "[{x-by rule} {x-backend 1} {x-rule 1}]", false},
		{"/rule/x", "rule.example", "[7]", "https://rule.example", "[{x-by rule} {x-rule 1}]", true},
		{"/foo/x", "", "[]", "https://rule.example", "[{x-by rule} {x-rule 1}]", false},
	} {
		b := c.Pick(uint64(i))
		refs := []int{}
		for _, m := range b.Mirrors {
			refs = append(refs, m.Ref)
		}
		host := ""
		if b.Rewrite != nil {
			host = b.Rewrite.Host
		}
		request, _ := c.RequestHeaders(b, nil, "h", nil)
		if got := string(b.Rewrite.AppendPath(nil, "/foo/x", 4)); got != want.path || host != want.host || fmt.Sprint(refs) != want.mirrors ||
			fmt.Sprint(request) != want.headers || fmt.Sprint(c.ReplyHeaders(b, nil, nil)) != want.headers || (b.Redirect != nil) != want.redirect {
			t.Errorf("backend %d: path %s host %q mirrors %v headers %v redirect %v, want %+v", i, got, host, refs, request, b.Redirect, want)
		}
		for _, o := range []string{"https://rule.example", "https://backend.example"} {
			if k := b.CORS.Check(req("GET", "/foo/x", "origin: "+o)); (k == CORSActual) != (o == want.origin) {
				t.Errorf("backend %d: origin %s is %d", i, o, k)
			}
		}
	}
}

// What is wrong with a filter of a backend costs that backend its share, and no other.
func TestBackendFiltersThatCannotBe(t *testing.T) {
	for name, tt := range map[string]struct {
		b     Backend
		field string
	}{
		"rewrite":              {Backend{Filters: Filters{Rewrite: &Rewrite{Host: "a b"}}}, "backends[1].filters.rewrite"},
		"cors":                 {Backend{Filters: Filters{CORS: &CORS{AllowMethods: []string{"a b"}}}}, "backends[1].filters.cors"},
		"header":               {Backend{Filters: Filters{Request: &HeaderOps{Set: []HeaderValue{{Name: "a b", Value: "c"}}}}}, "backends[1].filters.request.set[0]"},
		"redirect":             {Backend{Redirect: &Redirect{Status: 200}}, "backends[1].redirect"},
		"redirect and rewrite": {Backend{Redirect: &Redirect{}, Filters: Filters{Rewrite: &Rewrite{Host: "a"}}}, "backends[1]"},
	} {
		tt.b.Weight = 1
		tab, errs := Compile([]Rule{{Backends: []Backend{{Weight: 1}, tt.b}}}, AsListed)
		c := tab.Rules()[0]
		if len(errs) != 1 || errs[0].Field != tt.field || !errs[0].Broken || c.Broken != "" {
			t.Errorf("%s: %v, rule broken %q", name, errs, c.Broken)
			continue
		}
		if good, bad := c.Pick(0), c.Pick(1); good.Invalid != "" || bad.Invalid == "" || bad.Status != 500 || bad.Redirect != nil {
			t.Errorf("%s: %+v and %+v", name, good, bad)
		}
	}
	if _, errs := Compile([]Rule{{Backends: []Backend{{Filters: Filters{Mirrors: []Mirror{{Numerator: 2, Denominator: 1}}}}}}}, AsListed); len(errs) != 1 || errs[0].Broken || errs[0].Field != "backends[0].filters.mirrors[0]" {
		t.Errorf("share above one: %v", errs)
	}
}

// naiveRewrite says what a request becomes by the definitions: host and path are each
// rewritten by the backend if it says something of it, else by the rule.
func naiveRewrite(rule, backend *Rewrite, authority, path, prefix string) (string, string) {
	for _, w := range []*Rewrite{rule, backend} {
		if w != nil && w.Host != "" {
			authority = w.Host
		}
	}
	by := backend
	if by == nil || by.FullPath == nil && by.PrefixReplace == nil {
		by = rule
	}
	switch {
	case by == nil:
	case by.FullPath != nil:
		path = *by.FullPath
	case by.PrefixReplace != nil:
		path = strings.TrimSuffix(*by.PrefixReplace, "/") + strings.TrimPrefix(path, prefix)
		if path == "" {
			path = "/"
		}
	}
	return authority, path
}

func drawRewrite(t *rapid.T) *Rewrite {
	if rapid.IntRange(0, 3).Draw(t, "none") == 0 {
		return nil
	}
	w := &Rewrite{Host: rapid.SampledFrom([]string{"", "a.example", "b.example"}).Draw(t, "host")}
	to := rapid.SampledFrom([]string{"/", "/a", "/a/", "/b/c"}).Draw(t, "to")
	switch rapid.IntRange(0, 2).Draw(t, "path") {
	case 1:
		w.FullPath = &to
	case 2:
		w.PrefixReplace = &to
	}
	return w
}

func drawMirrors(t *rapid.T) (out []Mirror) {
	for range rapid.IntRange(0, 3).Draw(t, "mirrors") {
		m := Mirror{Ref: rapid.IntRange(0, 9).Draw(t, "ref"), Numerator: rapid.Uint32Range(0, 2).Draw(t, "numerator"), Denominator: 2}
		if rapid.IntRange(0, 3).Draw(t, "invalid") == 0 {
			m.Ref, m.Invalid = -1, "missing"
		}
		out = append(out, m)
	}
	return out
}

func drawCORS(t *rapid.T) *CORS {
	if rapid.Bool().Draw(t, "none") {
		return nil
	}
	return &CORS{AllowOrigins: []ValueMatch{{Value: rapid.SampledFrom([]string{"https://a", "https://b", "https://c"}).Draw(t, "origin")}}}
}

func TestBackendFiltersEqualNaive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rule := Rule{
			Matches: []Match{{Path: PathMatch{Kind: PathPrefix, Value: "/p"}}},
			Filters: Filters{Rewrite: drawRewrite(t), Mirrors: drawMirrors(t), CORS: drawCORS(t)},
		}
		for i := range rapid.IntRange(1, 4).Draw(t, "backends") {
			b := Backend{Ref: i, Weight: 1, Filters: Filters{Rewrite: drawRewrite(t), Mirrors: drawMirrors(t), CORS: drawCORS(t)}}
			if rapid.IntRange(0, 4).Draw(t, "redirects") == 0 {
				b.Redirect, b.Filters.Rewrite = &Redirect{Host: "new.example"}, nil
			}
			rule.Backends = append(rule.Backends, b)
		}
		tab, errs := Compile([]Rule{rule}, ByPrecedence)
		if len(errs) > 0 {
			t.Fatal(errs[0])
		}
		r := &attrs.Request{Method: "GET", Authority: "cart", Path: rapid.SampledFrom([]string{"/p", "/p/", "/p/x", "/p/x/y"}).Draw(t, "path"),
			Headers: []attrs.Field{{Name: "origin", Value: "https://b"}}}
		got, ok := tab.Match(r)
		if !ok {
			t.Fatal("no match")
		}
		for i := range rule.Backends {
			spec, b := &rule.Backends[i], got.Rule.Pick(uint64(i))
			host, path := naiveRewrite(rule.Filters.Rewrite, spec.Filters.Rewrite, r.Authority, r.Path, "/p")
			at := r.Authority
			if b.Rewrite != nil && b.Rewrite.Host != "" {
				at = b.Rewrite.Host
			}
			if to := string(b.Rewrite.AppendPath(nil, r.Path, got.Prefix)); at != host || to != path {
				t.Fatalf("backend %d: %s%s, want %s%s\n%s", i, at, to, host, path, tab.Dump(nil))
			}
			if b.Redirect != spec.Redirect {
				t.Fatalf("backend %d redirects by %+v, want %+v", i, b.Redirect, spec.Redirect)
			}
			mirrors := slices.DeleteFunc(slices.Concat(rule.Filters.Mirrors, spec.Filters.Mirrors), func(m Mirror) bool { return m.Invalid != "" })
			if !slices.Equal(b.Mirrors, mirrors) {
				t.Fatalf("backend %d mirrors to %v, want %v", i, b.Mirrors, mirrors)
			}
			c := spec.Filters.CORS
			if c == nil {
				c = rule.Filters.CORS
			}
			if allowed := c != nil && c.AllowOrigins[0].Value == "https://b"; allowed != (b.CORS.Check(r) == CORSActual) {
				t.Fatalf("backend %d: origin allowed %v, want %v", i, !allowed, allowed)
			}
		}
	})
}
