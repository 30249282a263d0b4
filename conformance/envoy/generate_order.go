package envoy

import "fmt"

// Order adds a service whose policies, tokens, faults, CORS and routes all want to
// answer, so that what a question gets tells which of them comes first.
func (g *Generator) Order() *Subject {
	s := g.subject("order", "BASE")
	s.Policies = []Policy{
		{Name: s.Name + "-deny", Action: "DENY", Rules: []PolicyRule{{To: []Fields{{"paths": {"/*/denied"}}}}, {To: []Fields{{"paths": {"*/denied"}}}}}},
		{Name: s.Name + "-allow", Action: "ALLOW", Rules: []PolicyRule{{To: []Fields{{"notPaths": {"*/unallowed"}}}}}},
	}
	s.JWT = []JWTRule{{Issuer: "https://order.example.com"}}
	cors := &CORS{Origins: []string{"https://app.example.com"}, Methods: []string{"PUT"}, Expose: []string{"x-c"}, MaxAge: 60}
	tea := &Abort{Status: 418}
	own := HeaderOps{Set: [][2]string{{"x-own", "1"}}}
	for _, r := range []RouteRule{
		{Name: "plain"},
		{Name: "abort", Abort: tea},
		{Name: "abort-grpc", Abort: &Abort{GRPC: 9}},
		{Name: "cors", CORS: cors},
		{Name: "abort-cors", Abort: tea, CORS: cors},
		{Name: "abort-redirect", Abort: tea, Redirect: &Redirect{Host: "other.example.com", Status: 301}},
		{Name: "cors-redirect", CORS: cors, Redirect: &Redirect{Host: "other.example.com", Status: 301}},
		{Name: "abort-missing", Abort: tea, Backends: []WeightedBackend{{Name: "missing", Weight: 1, Response: own}}},
		{Name: "missing", CORS: cors, Backends: []WeightedBackend{{Name: "missing", Weight: 1, Response: own}, {Name: "missing-too", Weight: 1, Response: own}}},
		{Name: "edited", CORS: cors, Backends: []WeightedBackend{{Name: one(g, g.world.Backends), Weight: 1, Request: own, Response: own}, {Name: "missing", Weight: 0}}},
	} {
		r.Matches = []RouteMatch{{PathKind: "PathPrefix", Path: "/" + r.Name}}
		r.Response.Set = [][2]string{{"x-rule", r.Name}}
		s.Routes = append(s.Routes, r)
	}
	return s
}

// OrderQuestions ask each rule of s in every state: denied or not, with a wrong token
// or none, as a page, its preflight, a call.
func (g *Generator) OrderQuestions(s *Subject) (qs []*Question) {
	for i := range s.Routes {
		for _, end := range []string{"x", "denied", "unallowed"} {
			for _, token := range []string{"", "Bearer wrong"} {
				for _, as := range []string{"GET", "grpc", "page", "stranger", "preflight", "preflight of a stranger"} {
					q := g.base(s)
					q.Target, q.Note = fmt.Sprintf("/%s/%s", s.Routes[i].Name, end), as
					if token != "" {
						q.Headers = [][2]string{{"authorization", token}}
					}
					switch origin := "https://app.example.com"; as {
					case "grpc":
						q.Proto2, q.Method, q.Body = true, "POST", "\x00\x00\x00\x00\x00"
						q.Headers = append(q.Headers, h("content-type", "application/grpc", "te", "trailers")...)
					case "stranger", "preflight of a stranger":
						origin = "https://evil.example.com"
						fallthrough
					case "page", "preflight":
						q.Headers = append(q.Headers, [2]string{"origin", origin})
						if as[0] == 'p' && len(as) > 4 {
							q.Method = "OPTIONS"
							q.Headers = append(q.Headers, [2]string{"access-control-request-method", "PUT"})
						}
					}
					qs = append(qs, q)
				}
			}
		}
	}
	return qs
}
