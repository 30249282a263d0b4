package envoy

import "fmt"

// retryRules are the rules of the services that are asked about retries. All of
// them send to the pod of the service itself.
func retryRules() []RouteRule {
	codes := []int{502, 503, 418}
	var out []RouteRule
	add := func(name string, r RouteRule) {
		r.Name = name
		r.Response.Set = [][2]string{{"x-rule", name}}
		r.Matches = []RouteMatch{{PathKind: "PathPrefix", Path: "/" + name}}
		out = append(out, r)
	}
	for _, on := range []string{"5xx", "gateway-error", "reset", "reset-before-request", "connect-failure", "refused-stream", "retriable-4xx", "envoy-ratelimited",
		"cancelled", "deadline-exceeded", "internal", "resource-exhausted", "unavailable", "5xx,retriable-4xx", "gateway-error,reset"} {
		add("on-"+on, RouteRule{Retry: &Retry{On: on, Attempts: 2, Backoff: "0.010s"}})
	}
	add("codes", RouteRule{Retry: &Retry{Codes: codes, Attempts: 3, Backoff: "0.010s"}})
	add("token-codes", RouteRule{Retry: &Retry{On: "retriable-status-codes", Codes: codes, Attempts: 1, Backoff: "0.010s"}})
	add("none", RouteRule{Retry: &Retry{On: "5xx", Attempts: 0}})
	add("one", RouteRule{Retry: &Retry{Codes: codes, Attempts: 1}})
	// Timeouts leave half a second between what they tell apart.
	add("per-try", RouteRule{Retry: &Retry{On: "5xx", Attempts: 1, PerTry: "1s", Backoff: "0.010s"}})
	add("per-try-reset", RouteRule{Retry: &Retry{On: "reset", Attempts: 1, PerTry: "1s", Backoff: "0.010s"}})
	add("per-try-gateway", RouteRule{Retry: &Retry{On: "gateway-error", Attempts: 1, PerTry: "1s", Backoff: "0.010s"}})
	add("per-try-codes", RouteRule{Retry: &Retry{Codes: codes, Attempts: 1, PerTry: "1s"}})
	add("timeout", RouteRule{Timeout: "1.500s"})
	add("timeout-first", RouteRule{Timeout: "1.500s", Retry: &Retry{On: "5xx", Attempts: 3, PerTry: "5s", Backoff: "0.010s"}})
	add("timeout-last", RouteRule{Timeout: "2.500s", Retry: &Retry{On: "5xx", Attempts: 3, PerTry: "1s", Backoff: "0.010s"}})
	add("default", RouteRule{})
	add("abort", RouteRule{Abort: &Abort{Status: 418}})
	add("abort-503", RouteRule{Abort: &Abort{Status: 503}, Retry: &Retry{On: "5xx", Attempts: 2}})
	add("abort-grpc", RouteRule{Abort: &Abort{GRPC: 14}})
	return out
}

// Retries adds a service for each rule about retries, so that those that the
// Gateway API can say have a Kubernetes form. h2: their pods speak HTTP/2.
func (g *Generator) Retries(h2 bool) {
	for _, r := range retryRules() {
		s := g.subject("retry", "BASE")
		s.HTTP2, s.Routes = h2, []RouteRule{r}
	}
	for _, pods := range []string{"none", "down"} {
		s := g.subject("retry", "BASE")
		s.HTTP2, s.Pods = h2, pods
		s.Routes = []RouteRule{{Name: "pods-" + pods, Matches: []RouteMatch{{PathKind: "PathPrefix", Path: "/pods-" + pods}}}}
	}
}

// treatments are how applications treat one try after the other.
var treatments = []string{
	"200", "503,200", "503", "502,503,200", "500,200", "500", "501,200", "504,504,200", "404,200", "409,200", "409", "429,200", "418,418,418,200", "302,200",
	"grpc-14,200", "grpc-14", "grpc-1,200", "grpc-4,200", "grpc-8,200", "grpc-13,200", "grpc-2,200", "reset,200", "reset", "reset,503,200", "503,reset,200",
}

// slow are those that take a timeout.
var slow = []string{"hang,200", "hang", "503,hang,200"}

// RetryQuestions are questions to a service about retries.
func (g *Generator) RetryQuestions(s *Subject) []*Question {
	r := &s.Routes[0]
	how := treatments
	if r.Timeout != "" || r.Retry != nil && r.Retry.PerTry != "" {
		how = append(append([]string{}, treatments[:6]...), slow...)
		if !s.HTTP2 {
			how = append(how, "reset,hang")
		}
	}
	if r.Abort != nil || s.Pods != "" {
		how = treatments[:2]
	}
	var qs []*Question
	for i, h := range how {
		for j, v := range []string{"GET", "grpc", "POST", "headers"} {
			if j > 1 && (i+j)%2 == 0 {
				continue // one of these for each treatment
			}
			q := g.base(s)
			q.Target, q.Tries, q.Note = "/"+r.Name+"/x", h, fmt.Sprint(h, " ", v)
			switch v {
			case "POST":
				q.Method, q.Body = "POST", "some body"
			case "headers": // which no client of the mesh may use
				q.Headers = [][2]string{{"X-Envoy-Retry-On", "5xx,reset,retriable-4xx"}, {"X-Envoy-Retry-Grpc-On", "unavailable,cancelled,internal"}, {"X-Envoy-Max-Retries", "4"},
					{"X-Envoy-Retriable-Status-Codes", "404,429"}, {"X-Envoy-Upstream-Rq-Timeout-Ms", "300"}, {"X-Envoy-Upstream-Rq-Per-Try-Timeout-Ms", "200"}}
			case "grpc":
				q.Proto2, q.Method, q.Body = true, "POST", "\x00\x00\x00\x00\x00"
				q.Headers = [][2]string{{"content-type", "application/grpc"}, {"te", "trailers"}}
			}
			qs = append(qs, q)
		}
	}
	return qs
}
