package envoy

import "fmt"

// providers are external authorizers of both kinds with every option, up, slow,
// down and without an endpoint, closed and open on failure.
var providers = []Provider{
	{Name: "grpc", GRPC: true, Where: "up"},
	{Name: "grpc-body", GRPC: true, Where: "up", MaxBody: 4096, PartialBody: true},
	{Name: "grpc-whole-body", GRPC: true, Where: "up", MaxBody: 4096},
	{Name: "grpc-raw-body", GRPC: true, Where: "up", MaxBody: 4096, PartialBody: true, BodyAsBytes: true},
	{Name: "grpc-some-headers", GRPC: true, Where: "up", IncludeHeaders: []string{steerHeader, "cookie", "x-t*"}},
	{Name: "grpc-status", GRPC: true, Where: "up", StatusOnError: 503, Timeout: "2s"},
	{Name: "grpc-open", GRPC: true, Where: "up", FailOpen: true, Timeout: "2s"},
	{Name: "grpc-down", GRPC: true, Where: "down", Timeout: "3s"},
	{Name: "grpc-down-open", GRPC: true, Where: "down", FailOpen: true, Timeout: "3s"},
	{Name: "grpc-empty", GRPC: true, Where: "empty", StatusOnError: 500},
	{Name: "grpc-empty-open", GRPC: true, Where: "empty", FailOpen: true},
	{Name: "http", Where: "up", IncludeHeaders: []string{steerHeader}},
	{Name: "http-headers", Where: "up", IncludeHeaders: []string{steerHeader, "cookie", "x-t*", "*-secret"}, AddHeaders: [][2]string{{"x-fixed", "1"}, {"x-twice", "3"}}, PathPrefix: "/check/prefix",
		UpstreamOnAllow: []string{"x-user", "x-up-*", checkedHeader}, DownstreamOnAllow: []string{"x-authorized", "set-cookie"}, DownstreamOnDeny: []string{"x-down", "set-cookie"}},
	{Name: "http-body", Where: "up", IncludeHeaders: []string{steerHeader}, MaxBody: 4096, PartialBody: true, UpstreamOnAllow: []string{checkedHeader}},
	{Name: "http-whole-body", Where: "up", IncludeHeaders: []string{steerHeader}, MaxBody: 4096, UpstreamOnAllow: []string{checkedHeader}},
	{Name: "http-status", Where: "up", IncludeHeaders: []string{steerHeader}, StatusOnError: 503, Timeout: "2s"},
	{Name: "http-open", Where: "up", IncludeHeaders: []string{steerHeader}, FailOpen: true, Timeout: "2s"},
	{Name: "http-down", Where: "down", IncludeHeaders: []string{steerHeader}, Timeout: "3s"},
	{Name: "http-down-open", Where: "down", IncludeHeaders: []string{steerHeader}, FailOpen: true, Timeout: "3s"},
	{Name: "http-empty", Where: "empty", IncludeHeaders: []string{steerHeader}, StatusOnError: 500},
}

// Custom adds a service for each external authorizer: some of its paths ask it, one
// is denied whatever it says.
func (g *Generator) Custom() []*Subject {
	g.world.Providers = providers
	var out []*Subject
	for i := range providers {
		s := g.subject("custom", "BASE")
		s.Policies = []Policy{
			{Name: s.Name, Action: "CUSTOM", Provider: providers[i].Name, Rules: []PolicyRule{{To: []Fields{{"paths": {"/checkout", "/checkout/{**}"}}}}}},
			{Name: s.Name + "-deny", Action: "DENY", Rules: []PolicyRule{{To: []Fields{{"paths": {"/checkout/denied"}}}}}},
		}
		out = append(out, s)
	}
	return out
}

// CustomQuestions are questions to a service with an authorizer.
func (g *Generator) CustomQuestions(s *Subject) []*Question {
	p := providers[0]
	for _, x := range providers {
		if x.Name == s.Policies[0].Provider {
			p = x
		}
	}
	verdicts := []string{"", "allow", "allow", "plain", "401", "redirect", "404", "503", "broken"}
	paths := []string{"/checkout", "/checkout/a?b=c", "/checkout/denied", "/free"}
	n := 2
	if p.Where == "up" && p.Timeout != "" {
		verdicts, paths, n = append(verdicts, "hang"), paths[:3], 1
	}
	if p.Where != "up" {
		n = 1
		verdicts, paths = verdicts[:2], paths[:1+len(paths)/2]
	}
	var qs []*Question
	for range n {
		for _, v := range verdicts {
			for _, path := range paths {
				q := g.authorized(g.base(s), v)
				q.Note, q.Target, q.Client = fmt.Sprint(p.Name, " ", v), path, one(g, Clients)
				if v == "hang" && path != paths[0] {
					continue // takes its timeout
				}
				qs = append(qs, q)
			}
		}
	}
	return qs
}
