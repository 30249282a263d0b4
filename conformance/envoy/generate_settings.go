package envoy

import (
	"fmt"
	"strings"
)

// formats are header values with command operators whose values both sides know: the
// oracle's tunnels hide the addresses of clients, and it calls its own clusters.
var formats = []string{
	"%REQ(:METHOD)%", "%REQ(:PATH)%", "%REQ(:AUTHORITY)%", "%REQ(X-A)%", "%REQ(X-NONE)%", "%REQ(X-NONE?X-A)%", "%REQ(X-NONE?:PATH)%", "%REQ(HOST)%", "%REQ(USER-AGENT)%",
	"a-%REQ(X-A)%-b", "a-%REQ(X-NONE)%-b", "%REQ(X-NONE)%%REQ(X-NONE-EITHER)%", "100%% of %REQ(X-A)%", "%%", "%PROTOCOL%", "%REQ(X-TWICE)%", "%REQ(X-EMPTY)%", "%REQ(X-FORWARDED-PROTO)%",
	"%REQUESTED_SERVER_NAME%", "%ENVIRONMENT(NOT_SET_ANYWHERE)%",
}

// Formats adds a service with a rule for each format, which it writes into the request
// and the answer, in place of a client's header and beside it.
func (g *Generator) Formats() *Subject {
	s := g.subject("settings", "BASE")
	s.Formats = true
	for i, f := range formats {
		ops := HeaderOps{Set: [][2]string{{"x-set", f}, {"x-b", f}}, Add: [][2]string{{"x-add", f}, {"x-kept", f}}}
		name := fmt.Sprint("format-", i)
		s.Routes = append(s.Routes, RouteRule{Name: name, Matches: []RouteMatch{{PathKind: "PathPrefix", Path: "/" + name + "/"}}, Request: ops, Response: ops})
	}
	s.Routes = append(s.Routes, RouteRule{
		Name: "codes", Matches: []RouteMatch{{PathKind: "PathPrefix", Path: "/codes"}},
		Response: HeaderOps{Set: [][2]string{{"x-code", "%RESPONSE_CODE%"}, {"x-flags", "%RESPONSE_FLAGS%"}, {"x-details", "%RESPONSE_CODE_DETAILS%"}}},
	})
	return s
}

// FormatQuestions ask each rule, over both protocols.
func (g *Generator) FormatQuestions(s *Subject) (qs []*Question) {
	ask := func(target string, headers [][2]string) {
		for _, two := range []bool{false, true} {
			q := g.base(s)
			q.Target, q.Headers, q.Proto2 = target, headers, two
			if two {
				q.Headers, _ = overHTTP2(headers)
			}
			qs = append(qs, q)
		}
	}
	for i := range formats {
		path := fmt.Sprintf("/format-%d/x?q=%%41", i)
		ask(path, h("X-A", "1", "X-Twice", "1", "X-Twice", "2", "X-Empty", "", "X-Set", "mine", "X-Kept", "mine", "User-Agent", "u"))
		ask(path, h("X-A", "a b", "X-Request-Id", "id"))
		ask(path, nil)
	}
	for _, status := range []string{"200", "204", "404", "500", "503"} {
		ask("/codes", h("x-want-status", status))
	}
	return qs
}

// SettingsQuestions adds services with settings of their connection managers, and asks
// them.
func (g *Generator) SettingsQuestions() (qs []*Question) {
	path := "/new"
	rewrite := []RouteRule{{Name: "all", Matches: []RouteMatch{{PathKind: "PathPrefix", Path: "/"}}, Rewrite: &Rewrite{Host: "other.example.com", Full: &path}, Timeout: "5s"}}
	for _, x := range []struct {
		manager Object
		quiet   bool
	}{
		{Object{"server_name": "shop"}, false},
		{Object{"server_header_transformation": "PASS_THROUGH"}, false},
		{Object{"generate_request_id": false}, false},
		{Object{"common_http_protocol_options": Object{"headers_with_underscores_action": "DROP_HEADER"}}, false},
		{Object{"common_http_protocol_options": Object{"headers_with_underscores_action": "REJECT_REQUEST"}}, false},
		{Object{"common_http_protocol_options": Object{"max_headers_count": 8}}, false},
		{Object{"max_request_headers_kb": 4}, false},
		{nil, true},
	} {
		s := g.subject("settings", "BASE")
		s.Manager, s.Quiet, s.Routes = x.manager, x.quiet, rewrite
		for _, hs := range [][][2]string{
			nil, h("X_Under", "1", "X-A", "2"), h("x-want-header", "Server: mine"), h("X-Request-Id", "mine"), many(3), many(7), many(20), h("X-Long", strings.Repeat("a", 3<<10)), h("X-Long", strings.Repeat("a", 6<<10)),
			h("x-want-status", "503"),
		} {
			for _, two := range []bool{false, true} {
				q := g.base(s)
				q.Target, q.Headers, q.Proto2, q.Note = "/x?y", hs, two, fmt.Sprint(x.manager, x.quiet)
				if two {
					q.Headers, _ = overHTTP2(hs)
				}
				qs = append(qs, q)
			}
		}
	}
	return qs
}
