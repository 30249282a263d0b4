package envoy

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// Clients are who asks in the generated worlds.
var Clients = []Client{
	{"clients", "curl", "127.8.20.1"},
	{"clients", "web", "127.8.20.2"},
	{"shop", "cart", "127.8.21.1"},
	{"shop-eu", "cart", "127.8.21.9"},
	{"untrusted", "bot", "127.8.22.1"},
	{"evil-1", "bot", "127.8.22.2"},
}

// Generator makes worlds and questions from a seed: the same seed makes the same.
type Generator struct {
	r     *rand.Rand
	world *World
	keys  *Keys
	n     int // questions made
}

// NewGenerator makes a world whose tokens these keys sign; nil: it has none.
func NewGenerator(seed uint64, keys *Keys) *Generator {
	g := &Generator{keys: keys, r: rand.New(rand.NewPCG(seed, 0)), world: &World{Namespace: "oracle", Backends: []string{"alpha", "beta", "gamma", "delta"}}}
	if keys != nil {
		g.world.JWKS = keys.JWKS
	}
	return g
}

// World is what was made so far.
func (g *Generator) World() *World { return g.world }

func (g *Generator) subject(kind, norm string) *Subject {
	s := &Subject{Name: fmt.Sprintf("%s-%d", kind, len(g.world.Subjects)), Kind: kind, Index: len(g.world.Subjects), Norm: norm}
	g.world.Subjects = append(g.world.Subjects, s)
	return s
}

// one returns one of the list.
func one[T any](g *Generator, l []T) T { return l[g.r.IntN(len(l))] }

func (g *Generator) chance(percent int) bool { return g.r.IntN(100) < percent }

// some returns one to n different ones of the list.
func some[T any](g *Generator, l []T, n int) []T {
	l = slices.Clone(l)
	g.r.Shuffle(len(l), func(i, j int) { l[i], l[j] = l[j], l[i] })
	return l[:1+g.r.IntN(min(n, len(l)))]
}

var (
	segments    = []string{"api", "v1", "v2", "items", "cart", "users", "static", "img", "a%20b", "x.y", "Admin", "admin", "~me", "42"}
	methods     = []string{"GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"}
	headerNames = []string{"x-team", "x-env", "x-canary", "x-tenant", "accept-language", "cookie", "x-client"}
	headerVals  = []string{"blue", "green", "green-1", "prod", "true", "1", "a,b", "de-DE", "Blue"}
	queryNames  = []string{"debug", "page", "q", "Debug"}
	queryVals   = []string{"1", "2", "yes", "a%20b", "A"}
	hosts       = []string{"web.example.com", "api.example.com", "shop.example.org", "web.example.com:8080", "WEB.example.com", "10.97.1.1"}
	regexes     = []sampled{
		{"/items/[0-9]+", []string{"/items/1", "/items/42", "/items/007"}},
		{"/(api|v1)/[a-z]+(/.*)?", []string{"/api/users", "/v1/cart/1", "/v1/x/"}},
		{"/static/.*\\.png", []string{"/static/a.png", "/static/x/y.png"}},
		{"/u/[^/]+/profile", []string{"/u/me/profile", "/u/a%20b/profile"}},
		{".*/end", []string{"/end", "/a/b/end"}},
	}
)

// sampled is a regular expression with texts it matches.
type sampled struct {
	expr string
	yes  []string
}

func (g *Generator) path() string {
	n := 1 + g.r.IntN(3)
	p := ""
	for range n {
		p += "/" + one(g, segments)
	}
	return p
}

// Routes adds a service with a route of n rules.
func (g *Generator) Routes(n int) *Subject {
	s := g.subject("route", "BASE")
	for i := range n {
		r := RouteRule{Name: fmt.Sprintf("%s-r%d", s.Name, i)}
		for range 1 + g.r.IntN(2) {
			r.Matches = append(r.Matches, g.routeMatch())
		}
		r.Response.Set = [][2]string{{"x-rule", r.Name}}
		g.filters(&r)
		s.Routes = append(s.Routes, r)
	}
	return s
}

func (g *Generator) routeMatch() RouteMatch {
	var m RouteMatch
	switch g.r.IntN(10) {
	case 0, 1:
		m.PathKind, m.Path = "Exact", g.path()
	case 2, 3, 4, 5:
		m.PathKind, m.Path = "PathPrefix", g.path()
		if g.chance(20) {
			m.Path += "/"
		}
	case 6, 7:
		m.PathKind, m.Path = "RegularExpression", one(g, regexes).expr
	default:
		m.PathKind, m.Path = "PathPrefix", "/"
	}
	if m.Path == "/" || g.chance(25) {
		for _, n := range some(g, headerNames, 2) {
			v := ValueMatch{Name: n, Value: one(g, headerVals)}
			if g.chance(25) {
				v.Value, v.Regex = one(g, []string{"[a-z]+", "green.*", "[0-9]+|true"}), true
			}
			m.Headers = append(m.Headers, v)
		}
	}
	if g.chance(20) {
		m.Query = append(m.Query, ValueMatch{Name: one(g, queryNames), Value: one(g, queryVals)})
	}
	if g.chance(25) {
		m.Method = one(g, methods)
	}
	return m
}

func (g *Generator) filters(r *RouteRule) {
	prefix := len(r.Matches) == 1 && r.Matches[0].PathKind == "PathPrefix" // what replacing a prefix takes
	text := func(s string) *string { return &s }
	switch k := g.r.IntN(12); {
	case k == 0:
		r.Redirect = &Redirect{Scheme: one(g, []string{"", "https", "http"}), Host: one(g, []string{"", "other.example.com"}), Status: one(g, []int{301, 302, 303, 307, 308})}
		if g.chance(30) {
			r.Redirect.Port = one(g, []int{80, 443, 8443})
		}
		if g.chance(40) {
			r.Redirect.Full = text("/moved/here")
		} else if prefix && g.chance(60) {
			r.Redirect.Prefix = text("/elsewhere")
		} else if r.Redirect.Host == "" && r.Redirect.Scheme == "" {
			r.Redirect.Host = "other.example.com"
		}
		return
	case k <= 3:
		r.Rewrite = &Rewrite{}
		if g.chance(30) {
			r.Rewrite.Host = "rewritten.example.com"
		}
		if prefix && g.chance(60) {
			r.Rewrite.Prefix = text(one(g, []string{"/", "/new", "/new/", "/deep/er"}))
		} else if r.Rewrite.Host == "" || g.chance(50) {
			r.Rewrite.Full = text("/full/path")
		}
	case k == 4:
		r.CORS = &CORS{Origins: []string{"https://app.example.com", "https://*.example.org"}, Methods: []string{"GET", "PUT"}, Headers: []string{"x-a", "x-b"},
			Expose: []string{"x-c"}, Credentials: g.chance(50), MaxAge: 600}
	}
	if g.chance(40) {
		r.Request.Set = [][2]string{{one(g, headerNames), "set"}}
	}
	if g.chance(30) {
		r.Request.Add = [][2]string{{"x-added", "a"}}
	}
	if g.chance(30) {
		r.Request.Remove = []string{"x-secret"}
	}
	if g.chance(30) {
		r.Response.Add = [][2]string{{"x-more", "1"}}
	}
	if g.chance(30) {
		r.Response.Remove = []string{"x-internal"}
	}
	switch {
	case g.chance(8):
		r.Backends = []WeightedBackend{{Name: "missing", Weight: 1}}
	case g.chance(20):
		two := some(g, g.world.Backends, 2)
		for i, b := range two {
			r.Backends = append(r.Backends, WeightedBackend{Name: b, Weight: 1 + i})
		}
	default:
		r.Backends = []WeightedBackend{{Name: one(g, g.world.Backends), Weight: 1}}
	}
	if g.chance(15) {
		r.Backends[0].Request.Add = [][2]string{{"x-backend", r.Backends[0].Name}}
		if len(r.Backends) == 1 { // of several the sides draw different ones
			r.Backends[0].Response.Set = [][2]string{{"x-more", "of " + r.Backends[0].Name}}
		}
	}
}

// base is a plain question about s.
func (g *Generator) base(s *Subject) *Question {
	g.n++
	return &Question{ID: fmt.Sprint("c", g.n), Subject: s.Name, Kind: s.Kind, Client: Clients[0], Authority: s.Authority(), Method: "GET", Target: g.path(), Host: s.Host(g.world.Namespace)}
}

// RouteQuestion is aimed at rule r of s: to meet it, or to miss it closely.
func (g *Generator) RouteQuestion(s *Subject, r *RouteRule, meet bool) *Question {
	q := g.base(s)
	q.Rule = r.Name
	m := one(g, r.Matches)
	var path, query string
	switch m.PathKind {
	case "Exact":
		path = m.Path
	case "PathPrefix":
		path = strings.TrimSuffix(m.Path, "/") + one(g, []string{"", "/", "/x", "/x/y", "//z", "/./y", "/%7Ey"})
		if path == "" {
			path = "/"
		}
	default:
		for _, e := range regexes {
			if e.expr == m.Path {
				path = one(g, e.yes)
			}
		}
	}
	for _, v := range m.Query {
		query += "&" + v.Name + "=" + v.Value
	}
	if g.chance(20) {
		query += "&extra=1"
	}
	for _, h := range m.Headers {
		v := h.Value
		if h.Regex {
			v = map[string]string{"[a-z]+": "abc", "green.*": "green-9", "[0-9]+|true": "17"}[v]
		}
		q.Headers = append(q.Headers, [2]string{h.Name, v})
	}
	if m.Method != "" {
		q.Method = m.Method
	}
	if g.chance(20) {
		q.Headers = append(q.Headers, [2]string{"X-Secret", "s"}, [2]string{"x-want-header", "X-Internal: yes"})
	}
	if r.CORS != nil && g.chance(60) {
		q.Headers = append(q.Headers, [2]string{"Origin", one(g, []string{"https://app.example.com", "https://a.example.org", "https://evil.example.net", "null"})})
		if m.Method == "" && g.chance(60) {
			q.Method = "OPTIONS"
			q.Headers = append(q.Headers, [2]string{"Access-Control-Request-Method", "PUT"}, [2]string{"Access-Control-Request-Headers", "x-a"})
		}
	}
	if !meet {
		path, query = g.spoil(q, path, query)
	}
	q.Target = path
	if query != "" {
		q.Target += "?" + query[1:]
	}
	if (q.Method == "POST" || q.Method == "PUT") && g.chance(50) {
		q.Body = "some body"
	}
	return q
}

// spoil changes one to two things.
func (g *Generator) spoil(q *Question, path, query string) (string, string) {
	for range 1 + g.r.IntN(2) {
		switch k := g.r.IntN(9); {
		case k <= 2:
			path = one(g, []string{path + "x", path + "/x", strings.TrimSuffix(path, "/"), strings.ToUpper(path), "/pre" + path, strings.Replace(path, "/", "/./", 1), path + "/../other", g.path()})
			if path == "" {
				path = "/"
			}
		case k <= 4 && len(q.Headers) > 0:
			i := g.r.IntN(len(q.Headers))
			h := &q.Headers[i]
			switch g.r.IntN(5) {
			case 0:
				h[1] = one(g, headerVals)
			case 1:
				h[1] = ""
			case 2:
				h[0] += "x"
			case 3:
				q.Headers = slices.Insert(q.Headers, i, [2]string{h[0], one(g, headerVals)})
			default:
				q.Headers = slices.Delete(q.Headers, i, i+1)
			}
		case k == 5 && query != "":
			query = one(g, []string{"", strings.ToUpper(query), query + "x", "&" + one(g, queryNames) + "=" + one(g, queryVals) + query})
		case k == 6:
			q.Method = one(g, methods)
		default:
			path = g.path()
		}
	}
	return path, query
}
