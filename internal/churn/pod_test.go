package churn

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"waypoint.dev/waypoint/hbone"
	"waypoint.dev/waypoint/internal/testmesh"
)

// ledger is what the apps saw: how often each request id arrived.
type ledger struct {
	mu   sync.Mutex
	seen map[string]int // guarded by mu
}

func (l *ledger) add(id string) {
	l.mu.Lock()
	l.seen[id]++
	l.mu.Unlock()
}

func (l *ledger) count(id string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.seen[id]
}

// wires is a listener whose connections can be cut with RST, or fall silent: what
// is written to them then gets nowhere, and nobody is told.
type wires struct {
	net.Listener
	silent atomic.Bool
	rst    atomic.Bool

	mu    sync.Mutex
	conns map[*wire]struct{} // guarded by mu
}

// wire hides what else a socket can do: hbone would read around Read.
type wire struct {
	net.Conn
	w    *wires
	once sync.Once
}

func listen(addr string) (*wires, error) {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	return &wires{Listener: ln, conns: map[*wire]struct{}{}}, nil
}

func (w *wires) Accept() (net.Conn, error) {
	nc, err := w.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &wire{Conn: nc, w: w}
	if w.rst.Load() {
		abort(nc)
	}
	w.mu.Lock()
	w.conns[c] = struct{}{}
	w.mu.Unlock()
	return c, nil
}

// abort makes the next Close a RST.
func abort(nc net.Conn) { nc.(*net.TCPConn).SetLinger(0) }

// cut resets every connection there is and returns how many.
func (w *wires) cut() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.conns {
		abort(c.Conn)
		c.Conn.Close()
	}
	return len(w.conns)
}

func (c *wire) Write(p []byte) (int, error) {
	if c.w.silent.Load() {
		return len(p), nil
	}
	return c.Conn.Write(p)
}

func (c *wire) Close() error {
	c.once.Do(func() {
		c.w.mu.Lock()
		delete(c.w.conns, c)
		c.w.mu.Unlock()
	})
	return c.Conn.Close()
}

// pod is one pod's life: an app, and the node proxy in front of it.
type pod struct {
	ip   netip.Addr
	node *testmesh.Node
	door *wires // HBONE
	srv  *http.Server
	back *wires // the app's port
}

func startPod(t *testing.T, ip netip.Addr, cfg hbone.ServerConfig, l *ledger) *pod {
	t.Helper()
	p := &pod{ip: ip}
	var err error
	if p.back, err = listen(ip.String() + ":8080"); err != nil {
		t.Fatal(err)
	}
	if p.door, err = listen(fmt.Sprintf("%v:%d", ip, testmesh.HBONEPort)); err != nil {
		t.Fatal(err)
	}
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	p.srv = &http.Server{Handler: app{l}, Protocols: &protocols, ReadHeaderTimeout: 10 * time.Second}
	go p.srv.Serve(p.back)
	p.node = testmesh.ServeNode(p.door, ip, cfg, nil)
	return p
}

// reset resets every connection, and those to come.
func (p *pod) reset() {
	p.door.rst.Store(true)
	p.back.rst.Store(true)
	p.door.cut()
	p.back.cut()
}

// freeze makes the pod silent, without closing anything. Its app goes on noting
// what arrives.
func (p *pod) freeze() { p.door.silent.Store(true) }

// close frees the addresses.
func (p *pod) close() {
	p.srv.Close()
	p.node.Close()
}

// app answers after a moment, and gRPC as gRPC.
type app struct{ l *ledger }

func (a app) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.l.add(r.Header.Get("X-Request-Id"))
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	time.Sleep(time.Duration(rand.IntN(10)) * time.Millisecond)
	if r.Header.Get("Content-Type") != "application/grpc" {
		w.Header().Set("Content-Type", "text/plain")
		w.Write(make([]byte, rand.IntN(20_000)))
		return
	}
	w.Header().Set("Content-Type", "application/grpc")
	w.Header().Set("Trailer", "Grpc-Status")
	w.Write(message(len(body)))
	w.Header().Set("Grpc-Status", "0")
}

// message is one gRPC message of n zero bytes.
func message(n int) []byte {
	b := make([]byte, 5+n)
	binary.BigEndian.PutUint32(b[1:], uint32(n))
	return b
}
