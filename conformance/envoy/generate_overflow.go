package envoy

import "fmt"

// Overflow adds a service for each limit of a connection pool, and returns the
// questions that reach it: asked beside a request that the application holds.
func (g *Generator) Overflow() (qs []*Question) {
	ask := func(p Pool, h2 bool, f func(*Subject, *Question)) {
		s := g.subject("overflow", "BASE")
		s.Pool, s.HTTP2 = p, h2
		q := g.base(s)
		q.Target, q.Tries, q.Beside = "/overflow/x", "200", "hang"
		q.Note = fmt.Sprintf("%+v, HTTP/2 %v", p, h2)
		f(s, q)
		q.Authority = s.Authority()
		qs = append(qs, q)
	}
	retries := func(s *Subject, q *Question) {
		s.Routes = []RouteRule{{Name: s.Name, Matches: []RouteMatch{{PathKind: "PathPrefix", Path: "/overflow"}}, Retry: &Retry{Codes: []int{503}, Attempts: 2, Backoff: "0.010s"}}}
		q.Beside, q.Tries = "503,hang", "503,200"
	}
	for _, h2 := range []bool{false, true} {
		for _, as := range []string{"GET", "grpc"} {
			form := func(f func(*Subject, *Question)) func(*Subject, *Question) {
				return func(s *Subject, q *Question) {
					if as == "grpc" {
						q.Proto2, q.Method, q.Body = true, "POST", "\x00\x00\x00\x00\x00"
						q.Headers = [][2]string{{"content-type", "application/grpc"}, {"te", "trailers"}}
					}
					if f != nil {
						f(s, q)
					}
				}
			}
			ask(Pool{MaxRequests: 1}, h2, form(nil))
			ask(Pool{MaxRequests: 2}, h2, form(nil)) // there is room
			ask(Pool{MaxRetries: 1}, h2, form(retries))
			ask(Pool{MaxRetries: 2}, h2, form(retries))
		}
	}
	ask(Pool{MaxConnections: 1, MaxPending: 1}, false, func(_ *Subject, q *Question) { q.Twice = true })
	ask(Pool{MaxConnections: 2, MaxPending: 1}, false, func(*Subject, *Question) {})
	tcp := func(s *Subject, q *Question) {
		s.TCP, q.TCP, q.Raw, q.Tries, q.Beside = true, true, []byte(tcpHello+"x\n"), "", held
	}
	ask(Pool{MaxConnections: 1}, false, tcp)
	ask(Pool{MaxConnections: 2}, false, tcp)
	return qs
}
