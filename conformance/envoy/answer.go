package envoy

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// Answer is what one side made of a question, reduced to what can be compared.
type Answer struct {
	Status  int  // 0: the connection ended without an answer
	Closed  bool // the connection was closed behind the answer
	Refused int  // status of a refused CONNECT
	Headers []string
	Body    string
	Seen    *Seen // nil: no application got the request
	Tries   int   // times that an application got it, of questions that ask for tries
	Err     string

	rules, audited string // what the oracle observed
}

var uuid = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)

// noise are the headers whose value is of the moment; that they are there counts.
var noise = []string{"date", "x-envoy-upstream-service-time"}

func newAnswer(res *http.Response, body string) (Answer, error) {
	a := Answer{Status: res.StatusCode, Closed: res.Close, Body: body}
	if v := res.Header.Get(seenHeader); v != "" {
		b, err := base64.StdEncoding.DecodeString(v)
		if err != nil {
			return a, err
		}
		a.Seen = new(Seen)
		if err := json.Unmarshal(b, a.Seen); err != nil {
			return a, err
		}
		a.Seen.reduce()
	}
	a.rules, a.audited = res.Header.Get(rulesHeader), res.Header.Get(auditHeader)
	for _, h := range []string{seenHeader, rulesHeader, auditHeader} {
		res.Header.Del(h)
	}
	if len(res.TransferEncoding) > 0 {
		res.Header.Set("Transfer-Encoding", strings.Join(res.TransferEncoding, ","))
	}
	for k, vs := range res.Header {
		k = strings.ToLower(k)
		for _, v := range vs {
			if slices.Contains(noise, k) {
				v = "*"
			}
			a.Headers = append(a.Headers, k+": "+v)
		}
	}
	slices.SortStableFunc(a.Headers, byName)
	return a, nil
}

// reduce orders headers by name, keeping repeated ones in their order, and drops
// what differs from one request to the next by design.
func (s *Seen) reduce() {
	s.unpack()
	s.Headers = slices.DeleteFunc(s.Headers, func(h [2]string) bool {
		return strings.EqualFold(h[0], "x-case") || strings.EqualFold(h[0], sideHeader)
	})
	for i, h := range s.Headers {
		if h[0] == "x-request-id" && uuid.MatchString(h[1]) {
			s.Headers[i][1] = "<uuid>"
		}
	}
	slices.SortStableFunc(s.Headers, func(a, b [2]string) int { return strings.Compare(a[0], b[0]) })
}

func byName(a, b string) int {
	x, _, _ := strings.Cut(a, ":")
	y, _, _ := strings.Cut(b, ":")
	return strings.Compare(x, y)
}

// Difference is one thing in which two answers to a question are unlike.
type Difference struct {
	Side     string // who differs from Envoy
	Question *Question
	Field    string // "status", "tries", "audited", "closed", "seen", "pod", "path", "method", "body", "app-header NAME", "header NAME", "answer-body"
	Envoy    string
	Other    string
}

// String is the difference with its question.
func (d Difference) String() string {
	return fmt.Sprintf("%s: %s: envoy %.200q, we %.200q\n    %v", d.Side, d.Field, d.Envoy, d.Other, d.Question)
}

// Compare lists in what b, the answer of side, is unlike Envoy's answer a. pods
// holds the pods between which a weight decides: any of them will do.
func Compare(q *Question, side string, a, b Answer, pods []string) []Difference {
	var out []Difference
	diff := func(field string, x, y any) {
		if xs, ys := fmt.Sprint(x), fmt.Sprint(y); xs != ys {
			out = append(out, Difference{Side: side, Question: q, Field: field, Envoy: xs, Other: ys})
		}
	}
	if a.Refused != b.Refused {
		diff("connect", a.Refused, b.Refused)
		return out
	}
	diff("tries", a.Tries, b.Tries)
	if a.audited != "" && b.audited != "" {
		diff("audited", a.audited, b.audited)
	}
	if a.Status != b.Status {
		diff("status", a.Status, b.Status)
		return out // the rest follows from it
	}
	if (a.Seen == nil) != (b.Seen == nil) {
		diff("seen", a.Seen != nil, b.Seen != nil)
		return out
	}
	diff("closed", a.Closed, b.Closed)
	if x, y := a.Seen, b.Seen; x != nil {
		split := slices.Contains(pods, x.Pod) && slices.Contains(pods, y.Pod)
		if !split {
			diff("pod", fmt.Sprint(x.Pod, ":", x.Port), fmt.Sprint(y.Pod, ":", y.Port))
		}
		diff("path", x.Target, y.Target)
		diff("method", x.Method, y.Method)
		diff("protocol", x.Proto, y.Proto)
		diff("body", x.Body, y.Body)
		if !split || x.Pod == y.Pod {
			ah, bh := pairs(x.Headers), pairs(y.Headers)
			if q.Direct { // the oracle's listener has TLS where a tunnel has none
				ah, bh = without(ah, "x-forwarded-proto"), without(bh, "x-forwarded-proto")
			}
			if len(q.header("grpc-timeout")) > 0 { // less what has passed
				ah, bh = without(ah, "x-envoy-expected-rq-timeout-ms"), without(bh, "x-envoy-expected-rq-timeout-ms")
			}
			out = append(out, lines(q, side, "app-header ", ah, bh, false)...)
			diff("answer-body", short(a.Body), short(b.Body))
		}
	} else {
		diff("answer-body", short(a.Body), short(b.Body))
	}
	return append(out, lines(q, side, "header ", a.Headers, b.Headers, a.Seen != nil && b.Seen != nil && a.Seen.Pod != b.Seen.Pod)...)
}

func pairs(h [][2]string) []string {
	out := make([]string, len(h))
	for i := range h {
		out[i] = h[i][0] + ": " + h[i][1]
	}
	return out
}

// lines compares two ordered lists of header lines name by name, without their
// content-length if other pods answered.
func lines(q *Question, side, field string, a, b []string, lengths bool) []Difference {
	group := func(l []string) map[string][]string {
		m := map[string][]string{}
		for _, s := range l {
			k, v, _ := strings.Cut(s, ": ")
			m[k] = append(m[k], v)
		}
		return m
	}
	x, y := group(a), group(b)
	var names []string
	for k := range x {
		names = append(names, k)
	}
	for k := range y {
		if _, ok := x[k]; !ok {
			names = append(names, k)
		}
	}
	slices.Sort(names)
	var out []Difference
	for _, k := range names {
		if lengths && k == "content-length" {
			continue // of another pod's name
		}
		if !slices.Equal(x[k], y[k]) {
			out = append(out, Difference{Side: side, Question: q, Field: field + k, Envoy: fmt.Sprintf("%q", x[k]), Other: fmt.Sprintf("%q", y[k])})
		}
	}
	return out
}

// without leaves out the lines of a header.
func without(lines []string, name string) []string {
	return slices.DeleteFunc(lines, func(l string) bool { return strings.HasPrefix(l, name+": ") })
}
