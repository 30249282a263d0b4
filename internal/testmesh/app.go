package testmesh

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// Seen is one request as an application received it.
type Seen struct {
	App     string            `json:"app"`
	ID      string            `json:"id"` // x-request-id
	Method  string            `json:"method"`
	Path    string            `json:"path"` // with query, as received
	Host    string            `json:"host"`
	Proto   string            `json:"proto"`
	Headers map[string]string `json:"headers"`
	Body    int               `json:"body"` // bytes
}

// App is an HTTP/1.1 and cleartext HTTP/2 application that answers with what it
// saw, and remembers it.
//
// Requests steer the answer: ?status=503, ?size=1024 (body bytes),
// ?delay=50ms before the head. Anything else is answered 200 with a JSON [Seen].
type App struct {
	Name string

	ln  net.Listener
	srv *http.Server

	mu    sync.Mutex
	seen  []Seen        // guarded by mu
	count int           // guarded by mu
	next  chan struct{} // guarded by mu: closed at the next request; nil: nobody waits
	limit int
	held  <-chan struct{} // guarded by mu: no answer before it is closed; nil: none is held
}

// Hold keeps every answer back until done is closed, as an application does that
// hangs. Requests are recorded as they come; bodies are not read.
func (a *App) Hold(done <-chan struct{}) {
	a.mu.Lock()
	a.held = done
	a.mu.Unlock()
}

// NewApp listens on addr ("127.0.1.1:8080") and serves until Close.
func NewApp(name, addr string) (*App, error) {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("testmesh: app %s: %w", name, err)
	}
	a := &App{Name: name, ln: ln, limit: 10000}
	var p http.Protocols
	p.SetHTTP1(true)
	p.SetUnencryptedHTTP2(true)
	a.srv = &http.Server{Handler: a, Protocols: &p, ReadHeaderTimeout: 10 * time.Second}
	go a.srv.Serve(ln)
	return a, nil
}

// Addr is where the application listens.
func (a *App) Addr() net.Addr { return a.ln.Addr() }

// ServeHTTP implements http.Handler.
func (a *App) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s := Seen{App: a.Name, ID: r.Header.Get("X-Request-Id"), Method: r.Method, Path: r.RequestURI, Host: r.Host, Proto: r.Proto, Headers: map[string]string{}}
	for k, v := range r.Header {
		s.Headers[http.CanonicalHeaderKey(k)] = v[0]
	}
	held := a.record(s) // at first byte: before the body is read
	if held != nil {
		select {
		case <-held:
		case <-r.Context().Done():
			return
		}
	}
	n, err := io.Copy(io.Discard, r.Body)
	s.Body = int(n)
	if err != nil && !errors.Is(err, io.EOF) {
		panic(http.ErrAbortHandler)
	}
	q := r.URL.Query()
	if d, err := time.ParseDuration(q.Get("delay")); err == nil {
		select {
		case <-time.After(min(d, 10*time.Second)):
		case <-r.Context().Done():
			return
		}
	}
	w.Header().Set("X-App", a.Name)
	if n, err := strconv.Atoi(q.Get("size")); err == nil && n >= 0 && n <= 1<<30 {
		w.Header().Set("Content-Length", strconv.Itoa(n))
		w.WriteHeader(status(q.Get("status")))
		for block := make([]byte, min(n, 32<<10)); n > 0; {
			m, err := w.Write(block[:min(n, len(block))])
			if err != nil {
				return
			}
			n -= m
		}
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status(q.Get("status")))
	json.NewEncoder(w).Encode(s)
}

func status(s string) int {
	if n, err := strconv.Atoi(s); err == nil && n >= 200 && n < 600 {
		return n
	}
	return http.StatusOK
}

// record notes s and returns what holds its answer: who has seen that a request
// arrived may hold the next ones by something else.
func (a *App) record(s Seen) (held <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.count++
	if a.next != nil {
		close(a.next)
		a.next = nil
	}
	if len(a.seen) < a.limit {
		a.seen = append(a.seen, s)
	}
	return a.held
}

// Count is how many requests arrived.
func (a *App) Count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.count
}

// Find returns the requests that arrived under a request id.
func (a *App) Find(id string) []Seen {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []Seen
	for _, s := range a.seen {
		if s.ID == id {
			out = append(out, s)
		}
	}
	return out
}

// Await is Find that waits for the first of them, and returns nil when ctx ends
// before.
func (a *App) Await(ctx context.Context, id string) []Seen {
	for {
		a.mu.Lock()
		if a.next == nil {
			a.next = make(chan struct{})
		}
		next := a.next
		a.mu.Unlock()
		if s := a.Find(id); len(s) > 0 {
			return s
		}
		select {
		case <-next:
		case <-ctx.Done():
			return nil
		}
	}
}

// Kill closes the listener and every connection at once, as a crashing pod does.
func (a *App) Kill() error { return a.Close() }

// Close is Kill.
func (a *App) Close() error {
	_ = a.ln.Close() // the server knows it only once its goroutine runs
	return a.srv.Close()
}
