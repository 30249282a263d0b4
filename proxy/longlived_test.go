package proxy_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/proxy"
)

// What lives long outlives the endpoint it goes to and the drain of the waypoint:
// a stream of gRPC's kind goes on until it ends by itself, a request under way gets
// its answer, and a client's kept connection goes on with another endpoint.
func TestLongLived(t *testing.T) {
	entered, hold := make(chan struct{}), make(chan struct{})
	m := newMesh(t, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		pod, _, _ := net.SplitHostPort(req.Context().Value(http.LocalAddrContextKey).(net.Addr).String())
		w.Header().Set("X-Pod", pod)
		switch req.URL.Path {
		case "/slow":
			close(entered)
			<-hold
		case "/s/echo":
			w.Header().Set("Content-Type", "application/grpc")
			w.Header().Set("Trailer", "Grpc-Status")
			_ = http.NewResponseController(w).Flush()
			b := make([]byte, 64)
			for {
				n, err := req.Body.Read(b)
				_, _ = w.Write(b[:n])
				_ = http.NewResponseController(w).Flush()
				if err != nil {
					break
				}
			}
			w.Header().Set("Grpc-Status", "0")
		}
	}), "127.53.0.5", "127.53.0.6")
	defer m.close()
	serve := func(i int) {
		prev := m.store.Load()
		snap, _ := config.Compile(proxy.AutoModel(m.eps[i]), prev, config.Env{State: proxy.BackendState})
		m.store.Swap(snap)
	}
	serve(0)

	// The stream.
	tr := m.transport(true)
	defer tr.CloseIdleConnections()
	pr, pw := io.Pipe()
	req, _ := http.NewRequest("POST", "http://cart/s/echo", pr)
	req.Header.Set("Content-Type", "application/grpc")
	req.Header.Set("Te", "trailers")
	stream, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	message := func(when string) {
		t.Helper()
		want := string([]byte{0, 0, 0, 0, 2}) + "hi"
		got := make([]byte, len(want))
		if _, err := io.WriteString(pw, want); err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		if _, err := io.ReadFull(stream.Body, got); err != nil || string(got) != want {
			t.Fatalf("%s: %q %v", when, got, err)
		}
	}
	message("at first")

	// The connections that are kept.
	dial := func() (net.Conn, *bufio.Reader) {
		tun, err := m.client.Dial(context.Background(), m.addr, proxy.VIP+":80")
		if err != nil {
			t.Fatal(err)
		}
		c := proxy.NetConn(tun)
		return c, bufio.NewReader(c)
	}
	ask := func(c net.Conn, path string) { _, _ = io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: cart\r\n\r\n") }
	answer := func(br *bufio.Reader, when, pod string) *http.Response {
		t.Helper()
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		if resp.StatusCode != 200 || resp.Header.Get("X-Pod") != pod {
			t.Fatalf("%s: %d by %q", when, resp.StatusCode, resp.Header.Get("X-Pod"))
		}
		return resp
	}
	kept, keptIn := dial()
	defer kept.Close()
	ask(kept, "/")
	answer(keptIn, "kept connection", "127.53.0.5")
	busy, busyIn := dial()
	defer busy.Close()
	ask(busy, "/slow")
	<-entered

	serve(1) // the endpoint of all of them is removed
	message("without its endpoint")
	ask(kept, "/")
	answer(keptIn, "kept connection, other endpoint", "127.53.0.6")

	done := make(chan error, 1)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	go func() { done <- m.srv.Shutdown(ctx) }()
	if b, err := io.ReadAll(keptIn); err != nil || len(b) > 0 { // idle: ended without a word
		t.Errorf("kept connection at the drain: %q %v", b, err)
	}
	_ = kept.Close()
	message("in the drain")
	close(hold)
	if resp := answer(busyIn, "slow request", "127.53.0.5"); !resp.Close {
		t.Error("the client is not told to leave")
	}
	_ = busy.Close()
	message("in the drain, alone")
	_ = pw.Close()
	if _, err := io.ReadAll(stream.Body); err != nil || stream.Trailer.Get("Grpc-Status") != "0" {
		t.Errorf("end of the stream: %v %v", stream.Trailer, err)
	}
	if err := <-done; err != nil {
		t.Errorf("shutdown: %v", err)
	}
	if n := m.p.Panics(); n != 0 {
		t.Errorf("%d panics", n)
	}
}
