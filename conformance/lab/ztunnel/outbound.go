package ztunnel

import (
	"context"
	"fmt"
	"net"
	"net/netip"

	corev1 "k8s.io/api/core/v1"

	"waypoint.dev/waypoint/conformance/lab/cluster"
	"waypoint.dev/waypoint/conformance/lab/sandbox"
	"waypoint.dev/waypoint/identity"
)

// route is where one connection of a pod goes.
type route struct {
	to        netip.AddrPort
	authority string // of the CONNECT; empty: not tunnelled
	want      string // identity that the other side must prove
}

// serveOutbound takes the connections that the pod opens.
func (x *pod) serveOutbound(ctx context.Context) error {
	ln, err := x.net.Listen(ctx, outboundPort)
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { _ = ln.Close() })
	x.wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			x.wg.Go(func() { x.outbound(ctx, c.(*net.TCPConn)) })
		}
	})
	return nil
}

func (x *pod) outbound(ctx context.Context, c *net.TCPConn) {
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	defer c.Close()
	dst, err := sandbox.OriginalDst(c)
	if err == nil {
		err = x.forward(ctx, c, dst)
	}
	if err != nil && ctx.Err() == nil {
		x.count(&x.failed)
		x.p.log.Info("connection failed", "pod", x.namespace+"/"+x.name, "to", dst, "error", err)
		_ = c.SetLinger(0) // the app sees a reset, as of a refused connection
	}
}

func (x *pod) forward(ctx context.Context, c *net.TCPConn, dst netip.AddrPort) error {
	r, err := x.p.route(dst)
	if err != nil {
		return err
	}
	if r.authority != "" {
		return x.pool.tunnel(ctx, r, c)
	}
	x.count(&x.plain)
	dctx, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	up, err := x.net.Dial(dctx, r.to, mark)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = up.Close() })
	defer stop()
	splice(c, up.(*net.TCPConn))
	return nil
}

// route decides as ztunnel does: by the destination's waypoint, else by what the
// destination's pod speaks.
func (p *Proxy) route(dst netip.AddrPort) (route, error) {
	if svc := p.view.Service(dst.Addr()); svc != nil {
		w, err := p.view.ForService(svc)
		if err != nil {
			return route{}, err
		}
		if w != nil {
			return p.through(w, dst), nil
		}
		to, ok := p.view.Endpoint(svc, dst.Port())
		if !ok {
			return route{}, fmt.Errorf("Service %s/%s has no ready endpoint on port %d", svc.Namespace, svc.Name, dst.Port())
		}
		return p.direct(p.view.Pod(to.Addr()), to), nil
	}
	pod := p.view.Pod(dst.Addr())
	if pod == nil {
		return route{to: dst}, nil
	}
	w, err := p.view.ForPod(pod)
	if err != nil {
		return route{}, err
	}
	if w != nil {
		return p.through(w, dst), nil
	}
	return p.direct(pod, dst), nil
}

func (p *Proxy) through(w *cluster.Waypoint, dst netip.AddrPort) route {
	return route{to: w.Addr, authority: dst.String(), want: identity.URI(trustDomain, w.Namespace, w.Account)}
}

func (p *Proxy) direct(pod *corev1.Pod, to netip.AddrPort) route {
	if pod == nil || !cluster.Tunnelled(pod) {
		return route{to: to}
	}
	sa := pod.Spec.ServiceAccountName
	if sa == "" {
		sa = "default"
	}
	return route{
		to: netip.AddrPortFrom(to.Addr(), cluster.HBONE), authority: to.String(),
		want: identity.URI(trustDomain, pod.Namespace, sa),
	}
}

const trustDomain = "cluster.local"
