package churn

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// kind of load.
type kind int

const (
	http1 kind = iota
	http2
	grpc
	kinds
)

func (k kind) String() string { return [...]string{"http/1.1", "http/2", "grpc"}[k] }

// failure is a request that its client saw fail.
type failure struct {
	at    time.Time
	kind  kind
	id    string
	post  bool
	begun bool      // a 200 had arrived
	since time.Time // of the answer before, on the same connection; zero: none
	what  string
}

func (f failure) String() string {
	method := "GET"
	if f.post {
		method = "POST"
	}
	return fmt.Sprintf("%s %s %s %s: %s", f.at.Format("05.000"), f.kind, method, f.id, f.what)
}

// load is what the clients do and remember.
type load struct {
	urls [kinds]string
	ids  atomic.Uint64
	sent [kinds]atomic.Uint64

	mu       sync.Mutex
	failures []failure // guarded by mu
	posts    []string  // guarded by mu
}

// run sends requests of one kind, one after the other, until ctx ends.
func (l *load) run(ctx context.Context, k kind) {
	tr := &http.Transport{MaxIdleConnsPerHost: 1, DialContext: (&net.Dialer{Timeout: 5 * time.Second}).DialContext}
	if k != http1 {
		tr.Protocols = new(http.Protocols)
		tr.Protocols.SetUnencryptedHTTP2(true)
	}
	defer tr.CloseIdleConnections()
	var last time.Time
	for i := 0; ctx.Err() == nil; i++ {
		id := fmt.Sprintf("churn-%d", l.ids.Add(1))
		f := failure{kind: k, id: id, post: k == grpc || i%2 == 1, since: last}
		if f.post {
			l.mu.Lock()
			l.posts = append(l.posts, id)
			l.mu.Unlock()
		}
		l.sent[k].Add(1)
		f.what = l.one(tr, &f)
		f.at = time.Now()
		last = f.at
		if f.what == "" {
			continue
		}
		l.mu.Lock()
		l.failures = append(l.failures, f)
		l.mu.Unlock()
	}
}

// one sends a request and says what was wrong with its answer. The round trip is
// the transport's alone: http.Client would send a failed request again.
func (l *load) one(tr *http.Transport, f *failure) string {
	// A request that has begun is waited for, even behind the end of the run.
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	method, body := "GET", io.Reader(nil)
	if f.post {
		method = "POST"
		body = bytes.NewReader(message(500))
	}
	req, err := http.NewRequestWithContext(ctx, method, l.urls[f.kind]+"/shop.Cart/Add", body)
	if err != nil {
		return err.Error()
	}
	req.Header.Set("X-Request-Id", f.id)
	if f.kind == grpc {
		req.Header.Set("Content-Type", "application/grpc")
		req.Header.Set("TE", "trailers")
	}
	res, err := tr.RoundTrip(req)
	if err != nil {
		return "transport: " + err.Error()
	}
	defer res.Body.Close()
	got, err := io.ReadAll(res.Body)
	f.begun = res.StatusCode == 200 && res.Header.Get("Grpc-Status") == ""
	switch {
	case res.StatusCode != 200:
		return fmt.Sprintf("%d %s", res.StatusCode, strings.TrimSpace(string(got)))
	case err != nil:
		return "body: " + err.Error()
	case f.kind != grpc:
		return ""
	}
	if s := res.Header.Get("Grpc-Status"); s != "" {
		return "grpc-status " + s + " " + res.Header.Get("Grpc-Message")
	}
	if s := res.Trailer.Get("Grpc-Status"); s != "0" {
		return fmt.Sprintf("grpc-status %q in trailers", s)
	}
	return ""
}
