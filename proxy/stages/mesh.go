package stages

import (
	"context"
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/hbone"
	"waypoint.dev/waypoint/proxy"
	"waypoint.dev/waypoint/proxy/originate"
	"waypoint.dev/waypoint/resilience/balance"
)

const (
	// dialAttempts is how many endpoints of a backend are tried, as for a request
	// by Istio's default policy.
	dialAttempts = 3
	// dialTimeout bounds one of them where the caller's deadline is far away: the
	// connect timeout of an Istio cluster.
	dialTimeout = 10 * time.Second
	// logEvery keeps a provider that is down from filling the log.
	logEvery = time.Second
)

// mesh connects to backends of the snapshot that serves, and to names outside.
type mesh struct {
	// fixed after newMesh
	store  *config.Store
	dialer proxy.EndpointDialer
	names  *proxy.Names   // nil: the options brought one
	roots  *x509.CertPool // of servers outside of the mesh; nil: the system's

	mu      sync.Mutex
	swapped chan struct{} // guarded by mu: closed when what was compiled serves
}

// swapWait bounds how long a fetch waits for the snapshot that it belongs to: it
// begins while that is still being compiled, and the backend it needs may be new.
const swapWait = time.Second

// compiled says that a fetch may begin whose snapshot does not serve yet.
func (m *mesh) compiled() {
	m.mu.Lock()
	defer m.mu.Unlock()
	select {
	case <-m.swapped:
		m.swapped = make(chan struct{})
	default:
	}
}

// serves says that everything compiled so far serves.
func (m *mesh) serves() {
	m.mu.Lock()
	defer m.mu.Unlock()
	select {
	case <-m.swapped:
	default:
		close(m.swapped)
	}
}

func (m *mesh) settle(ctx context.Context) {
	m.mu.Lock()
	swapped := m.swapped
	m.mu.Unlock()
	t := time.NewTimer(swapWait)
	defer t.Stop()
	select {
	case <-swapped:
	case <-t.C:
	case <-ctx.Done():
	}
}

func newMesh(o Options) *mesh {
	m := &mesh{swapped: make(chan struct{}), store: o.Store, roots: o.Roots}
	if o.Names == nil {
		m.names = proxy.NewNames(nil)
		o.Names = m.names
	}
	m.dialer = proxy.EndpointDialer{Dialer: o.Dialer, Names: o.Names, Guard: o.Guard}
	return m
}

func (m *mesh) close() {
	if m.names != nil {
		m.names.Close()
	}
}

// dialBackend connects to the backend of a key, else to the host and port that
// the key names. Where the backend asks for TLS it offers protocols.
func (m *mesh) dialBackend(ctx context.Context, key string, protocols []string) (net.Conn, error) {
	if t := m.store.Load().Target(key); t != nil {
		return m.dialTarget(ctx, t, protocols)
	}
	parts := strings.Split(key, "|")
	if len(parts) < 2 {
		return nil, fmt.Errorf("backend %q is not known", key)
	}
	port, err := strconv.ParseUint(parts[1], 10, 16)
	if err != nil || parts[0] == "" {
		return nil, fmt.Errorf("backend %q is not known", key)
	}
	return m.dialHost(ctx, parts[0], uint16(port), protocols)
}

// dialHost connects to a name: a backend's in any of the forms that resolve in a
// cluster, else what DNS says.
func (m *mesh) dialHost(ctx context.Context, host string, port uint16, protocols []string) (net.Conn, error) {
	if t := m.find(host, port); t != nil {
		return m.dialTarget(ctx, t, protocols)
	}
	ep := &balance.Endpoint{Key: host, Hostname: host, Addr: netip.AddrPortFrom(netip.Addr{}, port)}
	if a, err := netip.ParseAddr(host); err == nil {
		if err := m.dialer.Guard.Check(a); err != nil {
			return nil, err
		}
		ep.Addr = netip.AddrPortFrom(a.Unmap(), port)
	}
	return m.connect(ctx, ep, nil, nil)
}

// find returns the backend that a host name means, or nil.
func (m *mesh) find(host string, port uint16) *config.Target {
	s := m.store.Load()
	if s == nil {
		return nil
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	suffix := "|" + strconv.Itoa(int(port))
	if t := s.Target(host + suffix); t != nil {
		return t
	}
	domain := s.Mesh.Domain
	if domain == "" {
		domain = "cluster.local"
	}
	switch labels := strings.Split(host, "."); {
	case len(labels) == 2: // name.namespace
		return s.Target(host + ".svc." + domain + suffix)
	case len(labels) == 3 && labels[2] == "svc":
		return s.Target(host + "." + domain + suffix)
	}
	return nil
}

// dialTarget connects to an endpoint of a backend, to another one if that fails.
func (m *mesh) dialTarget(ctx context.Context, t *config.Target, protocols []string) (net.Conn, error) {
	if spec := t.Spec.Load(); spec.Missing != "" {
		return nil, fmt.Errorf("backend %s: %s", t.Key, spec.Missing)
	}
	origin := proxy.OriginOf(t)
	var tried []*balance.Endpoint
	err := fmt.Errorf("backend %s: no healthy endpoint", t.Key)
	for range dialAttempts {
		ep := t.Set.Load().Pick(0, tried, 0)
		if ep == nil || len(tried) > 0 && tried[len(tried)-1] == ep {
			break // there is no other one
		}
		tried = append(tried, ep)
		var c net.Conn
		if c, err = m.connect(ctx, ep, origin, protocols); err == nil || ctx.Err() != nil {
			return c, err
		}
	}
	return nil, err
}

// connect connects to one endpoint, with the PROXY header and TLS that origin asks
// for. The connection serves many clients, so the header names none.
func (m *mesh) connect(ctx context.Context, ep *balance.Endpoint, origin *originate.Origin, protocols []string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	c, err := m.dialer.Dial(ctx, ep)
	if err != nil {
		return nil, err
	}
	if c, err = origin.Wrap(ctx, c, originate.Use{Protocols: protocols}); err != nil {
		return nil, err
	}
	switch c := c.(type) {
	case *hbone.Plain:
		return c.Conn, nil
	case net.Conn: // TLS
		return c, nil
	}
	return streamConn{c}, nil
}

// streamConn is a tunnel as a net.Conn.
type streamConn struct{ hbone.Conn }

func (streamConn) LocalAddr() net.Addr  { return tunnelAddr{} }
func (streamConn) RemoteAddr() net.Addr { return tunnelAddr{} }

type tunnelAddr struct{}

func (tunnelAddr) Network() string { return "hbone" }
func (tunnelAddr) String() string  { return "tunnel" }
