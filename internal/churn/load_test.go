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

	proxyhttp1 "waypoint.dev/waypoint/proxy/http1"
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
	begun bool // a 200 had arrived
	what  string
}

func (f failure) String() string {
	method := "GET"
	if f.post {
		method = "POST"
	}
	return fmt.Sprintf("%s %s %s %s: %s", f.at.Format("05.000"), f.kind, method, f.id, f.what)
}

// target is a fleet as clients see it.
type target struct {
	urls [kinds]string
	open *crowd
}

// load is what the clients do and remember.
type load struct {
	to   []target // the fleets
	ids  atomic.Uint64
	sent [kinds]atomic.Int64

	mu       sync.Mutex
	failures []failure // guarded by mu
	posts    []string  // guarded by mu
}

// run sends requests of one kind, one after the other, until ctx ends: GET and POST
// in turn, to each fleet in turn.
func (l *load) run(ctx context.Context, k kind) {
	tr := &http.Transport{MaxIdleConnsPerHost: 1, DialContext: (&net.Dialer{Timeout: 5 * time.Second}).DialContext}
	if k == http1 {
		// A server may close an idle connection at any time, and what then crosses the
		// close is lost (RFC 9112 section 9.5). So a client gives one up before its
		// server does: here, what idled for a tenth of the time that a connection which
		// drains still has for a last request. The rest is for the request to come there
		// on a machine that has other things to do.
		tr.IdleConnTimeout = proxyhttp1.DrainGrace / 10
	} else {
		tr.Protocols = new(http.Protocols)
		tr.Protocols.SetUnencryptedHTTP2(true)
	}
	defer tr.CloseIdleConnections()
	for i := 0; ctx.Err() == nil; i++ {
		id := fmt.Sprintf("churn-%d", l.ids.Add(1))
		f := failure{kind: k, id: id, post: k == grpc || i%2 == 1}
		if f.post {
			l.mu.Lock()
			l.posts = append(l.posts, id)
			l.mu.Unlock()
		}
		l.sent[k].Add(1)
		size := 500
		if i%12 < 4 {
			size = 40_000 // more than a TLS record, and than what waits for its head
		}
		to := &l.to[i/2%len(l.to)]
		leave := to.open.enter()
		f.what = one(tr, to.urls[k], &f, size)
		f.at = time.Now()
		leave()
		if f.what == "" {
			continue
		}
		l.mu.Lock()
		l.failures = append(l.failures, f)
		l.mu.Unlock()
	}
}

// one sends a request, with so large a body if it is a POST, and says what was wrong with its answer. The round trip is
// the transport's alone: http.Client would send a failed request again.
func one(tr *http.Transport, url string, f *failure, size int) string {
	// A request that has begun is waited for, even behind the end of the run.
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	method, body := "GET", io.Reader(nil)
	if f.post {
		method = "POST"
		body = bytes.NewReader(message(size))
	}
	req, err := http.NewRequestWithContext(ctx, method, url+"/shop.Cart/Add", body)
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
