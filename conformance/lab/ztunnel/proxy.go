package ztunnel

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"waypoint.dev/waypoint/conformance/lab/cluster"
	"waypoint.dev/waypoint/conformance/lab/sandbox"
	"waypoint.dev/waypoint/identity"
)

const (
	// Ports and mark of Istio's ztunnel (istio.io: "Ztunnel traffic redirection").
	outboundPort = 15001
	mark         = 0x539

	// dialLimit bounds one attempt to connect; certificates live for a day.
	dialLimit = 5 * time.Second
	certLife  = 24 * time.Hour
)

// Proxy is the node proxy of one node.
type Proxy struct {
	// Fixed after New.
	view *cluster.View
	ca   *identity.CA
	log  *slog.Logger

	mu   sync.Mutex
	pods map[*pod]struct{} // guarded by mu
}

// New returns a Proxy without pods.
func New(view *cluster.View, ca *identity.CA, log *slog.Logger) *Proxy {
	return &Proxy{view: view, ca: ca, log: log, pods: map[*pod]struct{}{}}
}

// pod is what runs inside one pod's network.
type pod struct {
	// Fixed after Attach.
	p         *Proxy
	net       *sandbox.Net
	namespace string
	name      string
	source    identity.Source
	pool      *pool
	cancel    context.CancelFunc
	wg        sync.WaitGroup

	mu     sync.Mutex
	peers  map[string]int // guarded by mu: tunnels into the pod, by the peer's identity
	plain  int            // guarded by mu: connections out of the pod that were not tunnelled
	failed int            // guarded by mu: connections out of the pod that found no way
}

// Attach begins to proxy a pod. The function it returns ends that.
func (p *Proxy) Attach(obj *corev1.Pod, n *sandbox.Net) (func(), error) {
	sa := obj.Spec.ServiceAccountName
	if sa == "" {
		sa = "default"
	}
	ctx, cancel := context.WithCancel(context.Background())
	x := &pod{
		p: p, net: n, namespace: obj.Namespace, name: obj.Name, cancel: cancel,
		source: p.ca.Source(obj.Namespace, sa, certLife), peers: map[string]int{},
	}
	x.pool = newPool(x)
	fail := func(err error) (func(), error) {
		x.close()
		return nil, fmt.Errorf("ztunnel: pod %s/%s: %w", obj.Namespace, obj.Name, err)
	}
	if err := x.serveInbound(ctx); err != nil {
		return fail(err)
	}
	if err := x.serveOutbound(ctx); err != nil {
		return fail(err)
	}
	if err := n.Do(sandbox.Redirect{
		To: netip.MustParsePrefix("0.0.0.0/0"), Except: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		ExceptMark: mark, Port: outboundPort,
	}.Apply); err != nil {
		return fail(err)
	}
	p.mu.Lock()
	p.pods[x] = struct{}{}
	p.mu.Unlock()
	return x.close, nil
}

func (x *pod) close() {
	x.p.mu.Lock()
	delete(x.p.pods, x)
	x.p.mu.Unlock()
	x.cancel()
	x.pool.close()
	x.wg.Wait()
	_ = x.source.Close()
}

// Stats are what the proxy has seen of one pod.
type Stats struct {
	// Peers counts tunnels into the pod by the identity of who opened them.
	Peers map[string]int
	// Plain counts the pod's own connections that were not tunnelled.
	Plain int
	// Failed counts the pod's own connections that found no way to their destination.
	Failed int
}

// Stats returns the counts of a pod; false if it is not proxied.
func (p *Proxy) Stats(namespace, name string) (Stats, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for x := range p.pods {
		if x.namespace == namespace && x.name == name {
			x.mu.Lock()
			defer x.mu.Unlock()
			s := Stats{Peers: map[string]int{}, Plain: x.plain, Failed: x.failed}
			for k, v := range x.peers {
				s.Peers[k] = v
			}
			return s, true
		}
	}
	return Stats{}, false
}

func (x *pod) count(n *int) {
	x.mu.Lock()
	*n++
	x.mu.Unlock()
}
