package churn

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"waypoint.dev/waypoint/hbone"
	"waypoint.dev/waypoint/internal/testmesh"
)

// ledger is what the apps saw: how often each request id arrived. The zero value is
// ready for use.
type ledger struct {
	mu   sync.Mutex
	seen map[string]int // guarded by mu
	next chan struct{}  // guarded by mu: closed at the next request; nil: nobody waits
}

func (l *ledger) add(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.seen == nil {
		l.seen = map[string]int{}
	}
	l.seen[id]++
	if l.next != nil {
		close(l.next)
		l.next = nil
	}
}

// await is count that waits for the first one, as long as ctx lasts: an HTTP/2
// server has read a request before the goroutine runs that notes it.
func (l *ledger) await(ctx context.Context, id string) int {
	for {
		l.mu.Lock()
		n := l.seen[id]
		if l.next == nil {
			l.next = make(chan struct{})
		}
		next := l.next
		l.mu.Unlock()
		if n > 0 {
			return n
		}
		select {
		case <-next:
		case <-ctx.Done():
			return 0
		}
	}
}

func (l *ledger) count(id string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.seen[id]
}

// pod is one pod's life: an app, and the node proxy in front of it.
type pod struct {
	node *testmesh.Node
	door *door // HBONE
	srv  *http.Server
	app  *app
}

func startPod(n *network, ip netip.Addr, cfg hbone.ServerConfig, l *ledger) (*pod, error) {
	back, err := net.Listen("tcp", ip.String()+":8080")
	if err != nil {
		return nil, err
	}
	p := &pod{app: &app{l: l, known: make(chan struct{})}}
	if p.door, err = n.listen(fmt.Sprintf("%v:%d", ip, testmesh.HBONEPort)); err != nil {
		back.Close()
		return nil, err
	}
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	p.srv = &http.Server{Handler: p.app, Protocols: &protocols, ReadHeaderTimeout: 10 * time.Second}
	go p.srv.Serve(back)
	p.node = testmesh.ServeNode(p.door, ip, cfg, nil, testmesh.Deliver)
	return p, nil
}

// freeze makes the pod silent, without closing anything. It goes on noting what
// arrives.
func (p *pod) freeze() { p.door.silent.Store(true) }

// drain sends everyone away and waits until they have gone.
func (p *pod) drain() error {
	ctx, cancel := context.WithTimeout(context.Background(), hears)
	defer cancel()
	return p.node.Drain(ctx)
}

// die resets every connection and frees the addresses. When it returns the app has
// read all that the pod was given, and noted it.
func (p *pod) die() error {
	err := p.door.close()
	return errors.Join(err, p.node.Close(), p.srv.Close())
}

// app answers after a moment, and gRPC as gRPC.
type app struct {
	l     *ledger
	seen  atomic.Int64
	known chan struct{} // closed with the request that makes it useful
}

func (a *app) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.l.add(r.Header.Get("X-Request-Id"))
	if a.seen.Add(1) == useful {
		close(a.known)
	}
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
