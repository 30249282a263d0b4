package proxy

import (
	"cmp"
	"math/rand/v2"
	"net/netip"
	"sync/atomic"
	"time"

	"waypoint.dev/waypoint/authz"
	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/hbone"
	"waypoint.dev/waypoint/internal/attrs"
	"waypoint.dev/waypoint/proxy/originate"
	"waypoint.dev/waypoint/resilience"
	"waypoint.dev/waypoint/resilience/balance"
	"waypoint.dev/waypoint/telemetry"
)

// tcpAttempts is how many endpoints are tried for one connection: as many as a
// request is by Istio's default policy. None of its bytes were sent.
const tcpAttempts = 3

// session is one TCP connection through the waypoint.
type session struct {
	// fixed once it is registered
	t        *tunnel
	s        splice
	declared bool // the port says TCP or TLS

	rec telemetry.Record // owned by the tunnel's goroutine; its labels are fixed

	silence, life time.Duration // fixed before bytes are copied: see bound

	reportedIn, reportedOut int64 // guarded by t.mu
	denied                  atomic.Pointer[authz.Decision]
}

// serveTCP copies bytes between the tunnel and an endpoint. checked says that
// the policies of connections were asked already.
func (t *tunnel) serveTCP(c *config.Chain, sn sniffed, checked bool) {
	defer sn.release()
	s := &session{t: t, declared: c.Spec.Protocol != config.ProtocolAuto}
	r := &s.rec
	r.Reset()
	t.base(r)
	r.Protocol = telemetry.TCP
	r.Service, r.Plan = t.serviceOf(c), planOf(c)
	t.p.opts.Telemetry.Begin()
	defer func() {
		r.Duration = time.Since(r.Start)
		t.p.opts.Telemetry.TCPClosed(r)
	}()
	backend := s.open(c, checked)
	if backend == nil {
		t.in.Reset()
		return
	}
	defer backend.Close()
	t.p.opts.Telemetry.TCPOpened(r)

	s.s.client, s.s.backend, s.s.ahead = t.in, backend, sn.bytes()
	t.mu.Lock()
	t.tcp = s
	t.mu.Unlock()
	// A change of policies between the check and here would have found nothing.
	t.recheck(t.p.opts.Store.Load())

	if s.life > 0 {
		defer time.AfterFunc(s.life, func() { s.s.end(endedLate) }).Stop()
	}
	s.s.run(&t.p.workers, s.silence)

	t.mu.Lock()
	s.report()
	t.tcp = nil
	t.mu.Unlock()
	r.Received, r.Sent = s.s.received.Load(), s.s.sent.Load()
	s.explain()
	if s.s.ended.Load() == endedClean {
		_ = t.in.Close()
	}
}

// open checks the policies, chooses an endpoint and connects to it. nil: the
// connection is to be cut, and the record says why.
func (s *session) open(c *config.Chain, checked bool) hbone.Conn {
	route, target := s.decide(c, checked)
	if target == nil {
		return nil
	}
	s.bound(route, target)
	return s.connect(target)
}

// decide finds out where the connection goes: nowhere without a target. route is
// nil where the destination has none.
func (s *session) decide(c *config.Chain, checked bool) (route *config.CompiledTCP, target *config.Target) {
	r, t := &s.rec, s.t
	if c.Broken != "" {
		r.Termination, r.Reason = "chain_broken", "chain_broken"
		return nil, nil
	}
	t.observe(c, r)
	if !checked {
		if d, flags, ok := t.allowed(c); !ok {
			deniedConn(r, d, flags)
			return nil, nil
		}
	}
	route, ok := c.RouteTCPFor(t.conn.Peer.Namespace, t.conn.SNI)
	if !ok {
		r.Flags |= telemetry.FlagNR
		r.Details = "route_not_found"
		return nil, nil
	}
	target = c.Default
	if route != nil {
		r.Route = route.Spec.Route
		b := t.draw(c, route.Pick)
		if b == nil || b.Invalid != "" || route.Pick.Broken != "" {
			r.Flags |= telemetry.FlagNC
			r.Details = "cluster_not_found"
			return route, nil
		}
		target = t.target(c, b)
	} else if target == nil && t.conn.Dest.IsValid() {
		target = c.Direct(t.conn.Dest)
	}
	if target == nil || target.Spec.Load().Missing != "" {
		r.Flags |= telemetry.FlagNC
		r.Details = "cluster_not_found"
		return route, nil
	}
	return route, target
}

// connect tries endpoints of target until one takes the connection.
func (s *session) connect(target *config.Target) hbone.Conn {
	r, p := &s.rec, s.t.p
	st := stateOf(target)
	spec := target.Spec.Load()
	ctx, stop := s.t.interruptible()
	defer stop()
	var tried []*balance.Endpoint
	var last failure
	for range tcpAttempts {
		ep := s.pick(target, tried)
		if ep == nil {
			if last == failNone {
				r.Flags |= telemetry.FlagUH
				r.Details = "no_healthy_upstream"
			}
			return nil
		}
		if len(tried) > 0 && tried[len(tried)-1] == ep {
			break // there is no other one
		}
		info := p.poolOf(ep.Host).infoOf(ep, spec, target.Key)
		r.Service, r.UpstreamCluster = info.service, info.tcp
		if !s.admit(st) {
			r.Flags |= telemetry.FlagUO
			r.Details = "overflow"
			return nil
		}
		tried = append(tried, ep)
		r.Upstream, r.Dest = ep.Addr, info.peer
		r.Attempts++
		conn, err := p.connect(ctx, ep, &spec.Settings, st.origin.Load(), originate.Use{Source: s.t.conn.Source, Dest: s.t.conn.Dest})
		st.limits.ReleasePending()
		if err == nil {
			ep.Host.Active.Add(1)
			st.outliers.Report(ep, resilience.FailureNone, 200) // failures count in a row
			r.Flags, r.Details, r.TransportFailure = 0, "", ""
			return &countedConn{Conn: conn, done: func() {
				ep.Host.Active.Add(-1)
				st.connectionGone()
			}}
		}
		st.connectionGone()
		if ctx.Err() != nil { // the client left, or the process ends
			f := p.clientEnd()
			r.Flags |= f.flag()
			r.Details = f.details(false)
			return nil
		}
		last = connectFailure(err)
		st.outliers.Report(ep, (*exchange)(nil).blame(last), 503)
		r.Flags |= last.flag()
		r.Details = last.details(false)
		r.TransportFailure = err.Error()
	}
	return nil
}

// admit takes a connection, and its place among the pending until it is there, as
// Envoy's pools do for bytes as for requests.
func (s *session) admit(st *backendState) bool {
	if st.limits.AcquirePending() != nil {
		return false
	}
	if st.limits.AcquireConnection() != nil {
		st.limits.ReleasePending()
		return false
	}
	return true
}

func (s *session) pick(target *config.Target, tried []*balance.Endpoint) *balance.Endpoint {
	set := target.Set.Load()
	pol := set.Policy()
	if pol.Kind == balance.Passthrough {
		if d := target.Spec.Load().Dynamic; d != nil {
			return s.t.p.named(stateOf(target), d, s.t.conn.SNI, d.Port)
		}
		to := withPort(s.t.conn.Dest, pol.Port)
		if ep := set.ByAddr(to); ep != nil {
			return ep
		}
		if !to.IsValid() || s.t.p.opts.Guard.Check(to.Addr()) != nil {
			return nil
		}
		return s.t.p.chosen(to)
	}
	hash, _ := balance.HashKey(pol.Hash, &attrs.Request{Conn: &s.t.conn}, rand.Uint64)
	return set.Pick(hash, tried, 0)
}

// withPort puts the backend's own port in place of the one that was asked for;
// 0 keeps it.
func withPort(to netip.AddrPort, port uint16) netip.AddrPort {
	if port == 0 || !to.IsValid() {
		return to
	}
	return netip.AddrPortFrom(to.Addr(), port)
}

// countedConn runs done once when it is closed.
type countedConn struct {
	hbone.Conn
	done func()
}

func (c *countedConn) Close() error {
	if c.done != nil {
		c.done()
		c.done = nil
	}
	return c.Conn.Close()
}

// bound says how long the connection may be silent and last: as the route says, else
// as the backend does.
func (s *session) bound(route *config.CompiledTCP, target *config.Target) {
	set := &target.Spec.Load().Settings
	s.silence, s.life = cmp.Or(set.TCPIdleTimeout, defaultTCPIdle), set.MaxConnectionDuration
	if route != nil {
		s.silence, s.life = cmp.Or(route.Spec.Idle, s.silence), cmp.Or(route.Spec.Max, s.life)
	}
}

func (s *session) deny(d authz.Decision) {
	deniedConn(&s.rec, d, 0)
}

// cut ends the connection because of a new policy; t.mu is held.
func (s *session) cut(d authz.Decision) {
	s.denied.Store(&d)
	s.t.p.workers.do(cutSession{s})
}

// cutSession ends a session; a task since a reset may have to wait for a peer
// that takes no bytes.
type cutSession struct{ s *session }

func (c cutSession) run() { c.s.s.end(endedCut) }

func (s *session) cutFor(reason string) {
	s.cut(authz.Decision{Reason: authz.Reason(reason)})
}

// explain says in the record how the connection ended.
func (s *session) explain() {
	r := &s.rec
	switch s.s.ended.Load() {
	case endedIdle:
		r.Flags |= telemetry.FlagSI
		r.Termination = "idle_timeout"
	case endedLate:
		r.Flags |= telemetry.FlagDT
		r.Termination = "max_duration_timeout"
	case endedClient:
		f := s.t.p.clientEnd()
		r.Flags |= f.flag()
		if f == failStopped {
			r.Termination = f.details(true)
		}
	case endedBackend:
		r.Flags |= telemetry.FlagUC
	case endedCut:
		s.deny(*s.denied.Load())
	}
}

// report adds the bytes since the last report; t.mu is held.
func (s *session) report() {
	in, out := s.s.received.Load(), s.s.sent.Load()
	if in != s.reportedIn || out != s.reportedOut {
		s.t.p.opts.Telemetry.TCPBytes(&s.rec, in-s.reportedIn, out-s.reportedOut)
		s.reportedIn, s.reportedOut = in, out
	}
}

// recordTCP reports a connection that never opened.
func (t *tunnel) recordTCP(c *config.Chain, fill func(*telemetry.Record)) {
	r := &telemetry.Record{}
	r.Reset()
	t.base(r)
	r.Protocol = telemetry.TCP
	r.Service, r.Plan = t.serviceOf(c), planOf(c)
	fill(r)
	t.p.opts.Telemetry.Begin()
	t.p.opts.Telemetry.TCPClosed(r)
}
