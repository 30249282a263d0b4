package istiod

import (
	"fmt"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	internalv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/internal_upstream/v3"
	proxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/proxy_protocol/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"waypoint.dev/waypoint/config"
)

// Keys of transport socket matches (istio tlsMode) and of the metadata that
// chooses among them.
const (
	socketMatch  = "envoy.transport_socket_match"
	tlsModeKey   = "tlsMode"
	tlsModeIstio = "istio"
)

// transport translates how connections to a backend are wrapped, inside of the
// tunnel if there is one.
func (r *clusterReader) transport(c *clusterv3.Cluster) {
	if plumbing[c.GetName()] {
		return
	}
	sockets := []*corev3.TransportSocket{c.GetTransportSocket()}
	if m := c.GetTransportSocketMatches(); len(m) > 0 {
		sockets = sockets[:0]
		for _, x := range m {
			if x.GetMatch().GetFields()[tlsModeKey].GetStringValue() == tlsModeIstio {
				continue // towards sidecars; endpoints that ask for it are left out
			}
			sockets = append(sockets, x.GetTransportSocket())
		}
	}
	if c.GetTransportSocketMatcher() != nil {
		r.fail("transport_socket_matcher", "transport_socket_matcher is not supported")
	}
	s := &r.c.spec
	for _, ts := range sockets {
		tls, version, err := r.socket(ts)
		if err != nil {
			r.fail("transport_socket", "%v", err)
			return
		}
		if tls != nil {
			s.TLS = tls
		}
		s.ProxyProto = max(s.ProxyProto, version)
	}
}

// socket reads one transport socket and those it wraps.
func (r *clusterReader) socket(ts *corev3.TransportSocket) (tls *config.UpstreamTLS, proxy uint8, err error) {
	if ts == nil {
		return nil, 0, nil
	}
	switch kind := innerType(ts.GetTypedConfig()); kind {
	case "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer":
		return nil, 0, nil
	case "envoy.extensions.transport_sockets.internal_upstream.v3.InternalUpstreamTransport":
		var c internalv3.InternalUpstreamTransport
		if err := unpack(ts.GetTypedConfig(), &c); err != nil {
			return nil, 0, err
		}
		return r.socket(c.GetTransportSocket())
	case "envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport":
		var c proxyv3.ProxyProtocolUpstreamTransport
		if err := unpack(ts.GetTypedConfig(), &c); err != nil {
			return nil, 0, err
		}
		tls, _, err := r.socket(c.GetTransportSocket())
		return tls, uint8(c.GetConfig().GetVersion()) + 1, err // V1 is 0
	case "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext":
		var c tlsv3.UpstreamTlsContext
		if err := unpack(ts.GetTypedConfig(), &c); err != nil {
			return nil, 0, err
		}
		tls, err := r.upstreamTLS(&c)
		return tls, 0, err
	default:
		return nil, 0, fmt.Errorf("transport socket %s is not supported", shortType(kind))
	}
}
