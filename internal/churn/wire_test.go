package churn

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// network joins the two ends of each connection that the waypoint makes to a pod,
// so that a pod's death has one place in the order of what is written to it. The
// zero value is ready for use.
type network struct {
	mu    sync.Mutex
	links map[netip.AddrPort]*link // guarded by mu: by the address of the waypoint's end
}

// dial is how the waypoint connects.
func (n *network) dial(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	nc, err := new(net.Dialer).DialContext(ctx, "tcp", to.String())
	if err != nil {
		return nil, err
	}
	l := &link{TCPConn: nc.(*net.TCPConn), n: n}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.links == nil {
		n.links = map[netip.AddrPort]*link{}
	}
	n.links[addrPort(nc.LocalAddr())] = l
	return l, nil
}

// find returns the waypoint's end of the connection from addr; nil: it is closed.
func (n *network) find(addr netip.AddrPort) *link {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.links[addr]
}

func addrPort(a net.Addr) netip.AddrPort { return a.(*net.TCPAddr).AddrPort() }

// link is the waypoint's end of a connection. Reads go straight to the socket.
type link struct {
	*net.TCPConn
	n *network

	mu   sync.Mutex // held while the socket takes bytes
	sent int64      // guarded by mu: bytes that the socket took
	cut  bool       // guarded by mu: the pod's end is gone

	far atomic.Pointer[wire] // the pod's end; nil before it has read
}

// Write hands bytes over to the pod, all before its end or none behind it.
func (l *link) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut {
		return 0, &net.OpError{Op: "write", Net: "tcp", Source: l.LocalAddr(), Addr: l.RemoteAddr(), Err: syscall.ECONNRESET}
	}
	n, err := l.TCPConn.Write(p)
	l.sent += int64(n)
	return n, err
}

// Close lets the pod read what it was given: with an answer unread here, the kernel
// would send RST, which takes what is unread there.
func (l *link) Close() error {
	l.n.mu.Lock()
	if at := addrPort(l.LocalAddr()); l.n.links[at] == l {
		delete(l.n.links, at)
	}
	l.n.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	var err error
	if c := l.far.Load(); c != nil {
		err = c.await(func() bool { return c.over || c.got >= l.sent })
	}
	return errors.Join(err, l.TCPConn.Close())
}

// door is where a pod's node proxy takes connections. They can be cut with RST, or
// fall silent: what is written to them then gets nowhere, and nobody is told.
type door struct {
	net.Listener
	n      *network
	silent atomic.Bool

	mu    sync.Mutex
	shut  bool               // guarded by mu: connections are reset as they come
	empty chan struct{}      // guarded by mu: closed with the last connection; nil: nobody waits
	conns map[*wire]struct{} // guarded by mu
}

func (n *network) listen(addr string) (*door, error) {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	return &door{Listener: ln, n: n, conns: map[*wire]struct{}{}}, nil
}

// Accept implements net.Listener.
func (d *door) Accept() (net.Conn, error) {
	for {
		nc, err := d.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if c := d.admit(nc); c != nil {
			return c, nil
		}
		reset(nc)
	}
}

func (d *door) admit(nc net.Conn) *wire {
	c := &wire{Conn: nc, d: d}
	c.heard.L = &c.mu
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.shut {
		return nil
	}
	d.conns[c] = struct{}{}
	return c
}

// left returns a channel that is closed when no connection is left.
func (d *door) left() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	empty := make(chan struct{})
	d.empty = empty
	d.checkEmptyLocked()
	return empty
}

func (d *door) checkEmptyLocked() {
	if d.empty != nil && len(d.conns) == 0 {
		close(d.empty)
		d.empty = nil
	}
}

// reset closes with RST.
func reset(nc net.Conn) {
	nc.(*net.TCPConn).SetLinger(0)
	nc.Close()
}

// cut resets every connection there is and returns how many.
func (d *door) cut() (n int, err error) {
	d.mu.Lock()
	var list []*wire
	for c := range d.conns {
		list = append(list, c)
	}
	d.mu.Unlock()
	for _, c := range list {
		err = errors.Join(err, c.cut())
	}
	return len(list), err
}

// close is cut, for the connections to come as well.
func (d *door) close() error {
	d.mu.Lock()
	d.shut = true
	d.mu.Unlock()
	_, err := d.cut()
	return err
}

// wire is the pod's end of a connection. It hides what else a socket can do: hbone
// would read around Read.
type wire struct {
	net.Conn
	d    *door
	dead atomic.Bool // cut: what is written gets nowhere

	mu    sync.Mutex
	heard sync.Cond // got or over changed
	got   int64     // guarded by mu: bytes read
	over  bool      // guarded by mu: no more will be read
	far   *link     // guarded by mu: the other end; nil before it was heard
}

// hears is how long a pod may take to read what is in its sockets, or to drain.
const hears = 20 * time.Second

// cut resets the connection once the pod has read every byte that the waypoint
// handed over; until then the waypoint hands over no more. It returns when the pod
// has taken in what it read, which is when it wants to read on.
func (c *wire) cut() error {
	c.mu.Lock()
	l := c.far
	c.mu.Unlock()
	if l == nil { // before its handshake, there is no request on it
		c.dead.Store(true)
		reset(c.Conn)
		return c.await(func() bool { return c.over })
	}
	l.mu.Lock()
	err := c.await(func() bool { return c.over || c.got >= l.sent })
	l.cut = true
	c.dead.Store(true) // before the socket fails writes, for which the node would end what it reads
	reset(c.Conn)
	l.mu.Unlock()
	return errors.Join(err, c.await(func() bool { return c.over }))
}

// await waits for a state of the reading side, which is seen with c.mu held.
func (c *wire) await(state func() bool) error {
	late := false
	t := time.AfterFunc(hears, func() {
		c.mu.Lock()
		late = true
		c.heard.Broadcast()
		c.mu.Unlock()
	})
	defer t.Stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	for !state() {
		if late {
			return fmt.Errorf("%v has read %d bytes, and does not read on in %v", c.LocalAddr(), c.got, hears)
		}
		c.heard.Wait()
	}
	return nil
}

// Read implements net.Conn.
func (c *wire) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	var ne net.Error
	c.mu.Lock()
	if n > 0 && c.far == nil {
		if c.far = c.d.n.find(addrPort(c.RemoteAddr())); c.far != nil {
			c.far.far.Store(c)
		}
	}
	c.got += int64(n)
	c.over = c.over || err != nil && !(errors.As(err, &ne) && ne.Timeout())
	c.heard.Broadcast()
	c.mu.Unlock()
	return n, err
}

// Write implements net.Conn. A pod does not notice that nobody hears it.
func (c *wire) Write(p []byte) (int, error) {
	if c.d.silent.Load() || c.dead.Load() {
		return len(p), nil
	}
	n, err := c.Conn.Write(p)
	if err != nil && c.dead.Load() {
		return len(p), nil
	}
	return n, err
}

// Close implements net.Conn.
func (c *wire) Close() error {
	c.d.mu.Lock()
	delete(c.d.conns, c)
	c.d.checkEmptyLocked()
	c.d.mu.Unlock()
	c.mu.Lock()
	c.over = true
	c.heard.Broadcast()
	c.mu.Unlock()
	return c.Conn.Close()
}
