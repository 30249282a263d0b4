package envoy

import (
	"context"
	"strings"
	"sync"
)

// Headers of questions that ask for tries. The side tells apart the tries of one
// question by the proxies; applications do not report it.
const (
	triesHeader = "x-want-tries"
	sideHeader  = "x-side"
)

// tries counts how often applications got each question from each side.
type tries struct {
	mu   sync.Mutex
	more sync.Cond
	n    map[[2]string]int // by side and question
}

func newTries() *tries {
	t := &tries{n: map[[2]string]int{}}
	t.more.L = &t.mu
	return t
}

// await waits until applications got a question n times; false when ctx ends before.
func (t *tries) await(ctx context.Context, side, id string, n int) bool {
	defer context.AfterFunc(ctx, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.more.Broadcast()
	})()
	t.mu.Lock()
	defer t.mu.Unlock()
	for t.n[[2]string{side, id}] < n && ctx.Err() == nil {
		t.more.Wait()
	}
	return t.n[[2]string{side, id}] >= n
}

func (t *tries) count(side, id string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.n[[2]string{side, id}]
}

// how is how one try is treated: a status, "grpc-N" for a gRPC answer of that
// status without messages, "reset" for a connection that ends instead, "hang" for
// none.
type how string

// next counts a try and tells how to treat it; empty for questions that do not ask.
func (t *tries) next(s *Seen) how {
	want, side, id := s.values(triesHeader), s.values(sideHeader), s.values("x-case")
	if len(want) != 1 || len(side) != 1 || len(id) != 1 {
		return ""
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	k := [2]string{side[0], id[0]}
	l := strings.Split(want[0], ",")
	h := l[min(t.n[k], len(l)-1)]
	t.n[k]++
	t.more.Broadcast()
	return how(h)
}

// values steers an answer to be like this, on top of what the request says.
func (h how) values(request func(string) []string) func(string) []string {
	return func(name string) []string {
		grpc, ok := strings.CutPrefix(string(h), "grpc-")
		switch {
		case ok && name == "x-want-header":
			return append([]string{"connection: close", "content-type: application/grpc", "grpc-status: " + grpc}, request(name)...)
		case ok && name == "x-want-body":
			return []string{""}
		case !ok && name == "x-want-status":
			return []string{string(h)}
		case name == "x-want-header": // so that no later try is over a connection that was kept
			return append([]string{"connection: close"}, request(name)...)
		}
		return request(name)
	}
}
