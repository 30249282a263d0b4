package sandbox

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"sync/atomic"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// gateway is every pod's next hop. Calico's choice: a link-local address that exists on
// each veth's node side, so that no subnet is spent on the link.
const gateway = "169.254.1.1"

// Net is the network namespace of one pod. It must be closed.
type Net struct {
	// Fixed after NewNet.
	IP   netip.Addr
	link string
	fd   int // of the namespace

	closed atomic.Bool
}

// home is the node's namespace, opened once by Enter. What /proc/self says later is that of
// the main thread, which may just be visiting a pod's.
var home = -1

// pods counts namespaces, for addresses and link names that are never used twice: what
// still holds an old address fails instead of finding another pod.
var pods atomic.Uint32

// NewNet makes a namespace with one address, routed by the node.
func NewNet() (*Net, error) {
	i := pods.Add(1)
	host := 10 + i // 10.244.0.1 is the node
	n := &Net{
		IP:   netip.AddrFrom4([4]byte{10, 244, byte(host >> 8), byte(host)}),
		link: fmt.Sprintf("pod%d", i),
		fd:   -1,
	}
	if err := n.make(); err != nil {
		n.Close()
		return nil, fmt.Errorf("sandbox: network of %v: %w", n.IP, err)
	}
	return n, nil
}

func (n *Net) make() error {
	if err := onThread(func() (err error) {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		n.fd, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		return err
	}); err != nil {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = n.link
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(n.fd)}
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("veth: %w", err)
	}
	node, err := netlink.LinkByName(n.link)
	if err != nil {
		return err
	}
	if err := up(node, gateway+"/32"); err != nil {
		return err
	}
	if err := n.Do(n.configure); err != nil {
		return err
	}
	return netlink.RouteAdd(&netlink.Route{
		LinkIndex: node.Attrs().Index, Scope: netlink.SCOPE_LINK,
		Dst: &net.IPNet{IP: n.IP.AsSlice(), Mask: net.CIDRMask(32, 32)},
	})
}

// configure runs inside the namespace.
func (n *Net) configure() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return err
	}
	eth, err := netlink.LinkByName("eth0")
	if err != nil {
		return err
	}
	if err := up(eth, n.IP.String()+"/32"); err != nil {
		return err
	}
	gw := net.ParseIP(gateway)
	if err := netlink.RouteAdd(&netlink.Route{
		LinkIndex: eth.Attrs().Index, Scope: netlink.SCOPE_LINK,
		Dst: &net.IPNet{IP: gw, Mask: net.CIDRMask(32, 32)},
	}); err != nil {
		return err
	}
	return netlink.RouteAdd(&netlink.Route{LinkIndex: eth.Attrs().Index, Gw: gw})
}

func up(l netlink.Link, cidr string) error {
	a, err := netlink.ParseAddr(cidr)
	if err != nil {
		return err
	}
	if err := netlink.AddrAdd(l, a); err != nil {
		return err
	}
	return netlink.LinkSetUp(l)
}

// Do calls f on a thread inside the namespace. Sockets that f makes belong there for good;
// goroutines that f starts do not.
func (n *Net) Do(f func() error) error {
	runtime.LockOSThread()
	if err := unix.Setns(n.fd, unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("sandbox: enter %v: %w", n.IP, err)
	}
	err := f()
	if back := unix.Setns(home, unix.CLONE_NEWNET); back != nil {
		// A thread that cannot go home must not run anything else: it stays locked, and
		// the runtime ends it with its goroutine.
		panic(fmt.Sprintf("sandbox: leave %v: %v", n.IP, back))
	}
	runtime.UnlockOSThread()
	return err
}

// Listen opens a TCP listener inside the namespace.
func (n *Net) Listen(ctx context.Context, port uint16) (ln net.Listener, err error) {
	var lc net.ListenConfig
	err = n.Do(func() (err error) {
		ln, err = lc.Listen(ctx, "tcp4", netip.AddrPortFrom(netip.IPv4Unspecified(), port).String())
		return err
	})
	return ln, err
}

// Dial connects from inside the namespace. A mark other than 0 is set on the socket
// (SO_MARK), for rules that tell a proxy's own connections from its pod's.
func (n *Net) Dial(ctx context.Context, to netip.AddrPort, mark int) (c net.Conn, err error) {
	d := net.Dialer{Control: func(_, _ string, rc syscall.RawConn) (err error) {
		if mark == 0 {
			return nil
		}
		if cerr := rc.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, mark)
		}); cerr != nil {
			return cerr
		}
		return err
	}}
	err = n.Do(func() (err error) {
		c, err = d.DialContext(ctx, "tcp4", to.String())
		return err
	})
	return c, err
}

// Close removes the pod's links; the kernel drops the namespace when its last process and
// socket have gone.
func (n *Net) Close() {
	if n.closed.Swap(true) {
		return
	}
	if l, err := netlink.LinkByName(n.link); err == nil {
		_ = netlink.LinkDel(l)
	}
	if n.fd >= 0 {
		_ = unix.Close(n.fd)
	}
}

// onThread calls f on a thread that is thrown away afterwards.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked
		done <- f()
	}()
	return <-done
}
