package proxy

import (
	"context"
	"errors"
	"net"
	"net/netip"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/hbone"
	"waypoint.dev/waypoint/proxy/originate"
	"waypoint.dev/waypoint/resilience/balance"
)

// EndpointDialer connects to endpoints: through a tunnel, or directly by address
// or name. It is safe for concurrent use.
type EndpointDialer struct {
	Dialer Dialer
	Names  *Names      // required for endpoints with a name only
	Guard  hbone.Guard // what such a name may not resolve to
}

// Dial opens a byte stream to ep: a tunnel whose CONNECT was answered, or TCP.
func (d *EndpointDialer) Dial(ctx context.Context, ep *balance.Endpoint) (hbone.Conn, error) {
	if ep.Tunnel.IsValid() {
		t := hbone.Target{Addr: ep.Tunnel, Authority: ep.Authority, Identity: ep.Identity}
		if t.Authority == "" {
			t.Authority = ep.Addr.String()
		}
		if ep.Double {
			return d.double(ctx, t)
		}
		tun, err := d.Dialer.Dial(ctx, t, nil)
		if err != nil {
			return nil, err
		}
		return tun, nil
	}
	addr := ep.Addr
	if !addr.IsValid() {
		resolved, err := d.resolve(ctx, ep)
		if err != nil {
			return nil, err
		}
		addr = resolved
	}
	c, err := hbone.DialPlain(ctx, addr)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// DoubleDialer is a [Dialer] that also reaches other networks; *hbone.Pool is one.
type DoubleDialer interface {
	DialDouble(ctx context.Context, t hbone.Target) (*hbone.Double, error)
}

var errNoDouble = errors.New("the tunnel through the gateway of another network is not there")

func (d *EndpointDialer) double(ctx context.Context, t hbone.Target) (hbone.Conn, error) {
	dd, ok := d.Dialer.(DoubleDialer)
	if !ok {
		return nil, &hbone.DialError{Stage: hbone.StageConnect, Err: errNoDouble}
	}
	c, err := dd.DialDouble(ctx, t)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// resolve looks the name of a DNS endpoint up. The port is that of its address.
func (d *EndpointDialer) resolve(ctx context.Context, ep *balance.Endpoint) (netip.AddrPort, error) {
	addrs, err := d.Names.get(ctx, ep.Hostname)
	if err != nil {
		return netip.AddrPort{}, &hbone.DialError{Stage: hbone.StageTCP, Err: err}
	}
	err = &net.DNSError{Err: "no usable address", Name: ep.Hostname, IsNotFound: true}
	for _, a := range addrs {
		// A name is configured, what it resolves to is not: the guard holds.
		if gerr := d.Guard.Check(a); gerr != nil {
			err = gerr
			continue
		}
		return netip.AddrPortFrom(a.Unmap(), ep.Addr.Port()), nil
	}
	return netip.AddrPort{}, &hbone.DialError{Stage: hbone.StageTCP, Err: err}
}

// OriginOf is how connections to the endpoints of t are made; nil: as they come.
func OriginOf(t *config.Target) *originate.Origin { return stateOf(t).origin.Load() }
