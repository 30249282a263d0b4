package sandbox

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Redirect is one rule that sends TCP connections to a local port instead of where they
// go; [OriginalDst] says where that was.
type Redirect struct {
	// Incoming rules see what arrives from other namespaces, others what processes of the
	// namespace open themselves.
	Incoming bool
	// To is the range of destinations that the rule takes.
	To netip.Prefix
	// Except lists destinations that it does not.
	Except []netip.Prefix
	// ExceptMark exempts sockets with this mark (SO_MARK); 0: none.
	ExceptMark uint32
	// Port is the local port.
	Port uint16
}

// offsets in the IPv4 header (RFC 791 section 3.1).
const offsetDst = 16

// Apply adds the rule to the thread's network namespace.
func (r Redirect) Apply() error {
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("sandbox: nftables: %w", err)
	}
	table := c.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: "lab"})
	hook, name := nftables.ChainHookOutput, "out"
	if r.Incoming {
		hook, name = nftables.ChainHookPrerouting, "in"
	}
	chain := c.AddChain(&nftables.Chain{
		Name: name, Table: table, Type: nftables.ChainTypeNAT,
		Hooknum: hook, Priority: nftables.ChainPriorityNATDest,
	})
	exprs := []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_TCP}},
	}
	exprs = append(exprs, destination(r.To, expr.CmpOpEq)...)
	for _, p := range r.Except {
		exprs = append(exprs, destination(p, expr.CmpOpNeq)...)
	}
	if r.ExceptMark != 0 {
		exprs = append(exprs,
			&expr.Meta{Key: expr.MetaKeyMARK, Register: 1},
			&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(r.ExceptMark)})
	}
	exprs = append(exprs,
		&expr.Immediate{Register: 1, Data: binaryutil.BigEndian.PutUint16(r.Port)},
		&expr.Redir{RegisterProtoMin: 1})
	c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: exprs})
	if err := c.Flush(); err != nil {
		return fmt.Errorf("sandbox: redirect to :%d: %w", r.Port, err)
	}
	return nil
}

// destination compares the masked destination address.
func destination(p netip.Prefix, op expr.CmpOp) []expr.Any {
	base := p.Masked().Addr().As4()
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offsetDst, Len: 4},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: net.CIDRMask(p.Bits(), 32), Xor: make([]byte, 4)},
		&expr.Cmp{Op: op, Register: 1, Data: base[:]},
	}
}

// soOriginalDst is SO_ORIGINAL_DST of linux/netfilter_ipv4.h.
const soOriginalDst = 80

// OriginalDst returns where a redirected connection was going.
func OriginalDst(c net.Conn) (netip.AddrPort, error) {
	tc, ok := c.(*net.TCPConn)
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("sandbox: original destination of a %T", c)
	}
	rc, err := tc.SyscallConn()
	if err != nil {
		return netip.AddrPort{}, err
	}
	var to netip.AddrPort
	var oerr error
	if err := rc.Control(func(fd uintptr) {
		// The answer is a sockaddr_in, which has the size and alignment of what this
		// call is made for: family, port in network order, address.
		var m *unix.IPv6Mreq
		if m, oerr = unix.GetsockoptIPv6Mreq(int(fd), unix.SOL_IP, soOriginalDst); oerr == nil {
			raw := m.Multiaddr
			to = netip.AddrPortFrom(netip.AddrFrom4([4]byte(raw[4:8])), binary.BigEndian.Uint16(raw[2:4]))
		}
	}); err != nil {
		return to, err
	}
	return to, oerr
}
