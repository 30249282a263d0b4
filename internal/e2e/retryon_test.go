package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// scripted is an application that misbehaves as the path of a request says, at the
// first try of it; the others are answered 200.
type scripted struct {
	mu   sync.Mutex
	seen map[string]int // guarded by mu: tries by request id
}

func (s *scripted) serve(c net.Conn) {
	br := bufio.NewReader(c)
	for {
		req, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		id := req.Header.Get("X-Request-Id")
		s.mu.Lock()
		s.seen[id]++
		first := s.seen[id] == 1
		s.mu.Unlock()
		answer := "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
		if what := strings.TrimPrefix(req.URL.Path, "/"); first {
			switch {
			case what == "rst":
				c.(*net.TCPConn).SetLinger(0)
				return
			case what == "fin":
				return
			case what == "half":
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-")
				return
			case what == "garbage":
				io.WriteString(c, "what is this\r\n\r\n")
				return
			case strings.HasPrefix(what, "grpc-"):
				answer = "HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nGrpc-Status: " + what[5:] + "\r\nContent-Length: 0\r\n\r\n"
			case what == "limited":
				answer = "HTTP/1.1 503 Busy\r\nX-Envoy-Ratelimited: true\r\nContent-Length: 0\r\n\r\n"
			default:
				answer = "HTTP/1.1 " + what + " No\r\nContent-Length: 0\r\n\r\n"
			}
		}
		if _, err := io.WriteString(c, answer); err != nil {
			return
		}
	}
}

// Every condition of retryOn against applications that do precisely one thing. POST,
// since no method is spared; what is not retried is answered as it came.
func TestRetryOn(t *testing.T) {
	// What each failure is retried by.
	failures := map[string][]string{
		"500":     {"5xx"},
		"502":     {"5xx", "gateway-error"},
		"503":     {"5xx", "gateway-error"},
		"504":     {"5xx", "gateway-error"},
		"599":     {"5xx"},
		"409":     {"retriable-4xx"},
		"429":     {},
		"418":     {"418"},
		"limited": {"envoy-ratelimited"},
		"rst":     {"5xx", "gateway-error", "reset"},
		"fin":     {"5xx", "gateway-error", "reset"},
		"half":    {"5xx", "gateway-error", "reset"},
		"garbage": {"5xx", "gateway-error", "reset"},
		"grpc-1":  {"cancelled"},
		"grpc-4":  {"deadline-exceeded"},
		"grpc-8":  {"resource-exhausted"},
		"grpc-13": {"internal"},
		"grpc-14": {"unavailable"},
		"grpc-2":  {},
	}
	tokens := []string{"5xx", "gateway-error", "reset", "reset-before-request", "connect-failure", "refused-stream", "retriable-4xx",
		"retriable-status-codes", "418", "envoy-ratelimited", "cancelled", "deadline-exceeded", "internal", "resource-exhausted", "unavailable"}
	m := startMesh(t, nil)
	app := &scripted{seen: map[string]int{}}
	listen(t, podV1+":7070", app.serve)
	listen(t, podV1+":7071", func(c net.Conn) { io.Copy(io.Discard, c) }) // reads, and says nothing
	yaml := frame + pod(podV1)
	retry := func(name, token, more string) string {
		return fmt.Sprintf(`apiVersion: waypoint.dev/v1alpha1
kind: WaypointPolicy
metadata: {name: %s, namespace: shop}
spec: {targetRefs: [{group: "", kind: Service, name: %s}], retry: {attempts: 1, retryOn: "%s", backoff: 1ms%s}}
---
`, name, name, token, more)
	}
	for i, token := range tokens {
		n := strconv.Itoa(i)
		yaml += service(10+i, "app-"+n, "http", 7070, podV1) + retry("app-"+n, token, "") +
			service(40+i, "none-"+n, "http", 7072, podV1) + retry("none-"+n, token, "") +
			service(70+i, "mute-"+n, "http", 7071, podV1) + retry("mute-"+n, token, ", perTryTimeout: 20ms")
	}
	m.serve(yaml)
	has := func(list []string, token string) int {
		for _, l := range list {
			if l == token {
				return 2
			}
		}
		return 1
	}
	for i, token := range tokens {
		for what, by := range failures {
			a := m.ask("clients", 10+i, "POST", "/"+what)
			want := has(by, token)
			app.mu.Lock()
			seen := app.seen[a.id]
			app.mu.Unlock()
			if a.rec.Attempts != want || seen != want {
				t.Errorf("%s of %s: %d attempts, the application saw %d, want %d", token, what, a.rec.Attempts, seen, want)
			}
			if want == 2 && a.StatusCode != 200 {
				t.Errorf("%s of %s: %d", token, what, a.StatusCode)
			}
			if code, err := strconv.Atoi(what); err == nil && want == 1 && a.StatusCode != code {
				t.Errorf("%s of %s: %d", token, what, a.StatusCode)
			}
		}
		if a, want := m.ask("clients", 40+i, "POST", "/"), has([]string{"connect-failure", "5xx", "gateway-error", "reset", "reset-before-request"}, token); a.rec.Attempts != want || a.StatusCode != 503 {
			t.Errorf("%s where nobody listens: %d, %d attempts, want %d", token, a.StatusCode, a.rec.Attempts, want)
		}
		if a, want := m.ask("clients", 70+i, "POST", "/"), has([]string{"5xx", "gateway-error", "reset"}, token); a.rec.Attempts != want || a.StatusCode != 504 {
			t.Errorf("%s of silence: %d, %d attempts, want %d", token, a.StatusCode, a.rec.Attempts, want)
		}
	}
}
