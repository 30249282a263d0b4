package istiod

import (
	"fmt"
	"slices"
	"strings"

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
	if s.TLS != nil && !r.opts.UpstreamTLS {
		r.fail("transport_socket", "TLS to the backend is not implemented")
	}
	if s.TLS != nil && r.opts.UpstreamTLS {
		for _, n := range []string{s.TLS.CA, s.TLS.Cert} {
			if n == "default" || n == "ROOTCA" || slices.Contains(r.c.secrets, n) {
				r.fail("transport_socket", "the certificates of secret %s are not supported; use files", n)
			}
		}
	}
	if s.ProxyProto != 0 && !r.opts.ProxyProtocol {
		r.fail("transport_socket", "the PROXY protocol to the backend is not implemented")
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

func (r *clusterReader) upstreamTLS(c *tlsv3.UpstreamTlsContext) (*config.UpstreamTLS, error) {
	if at := unknownField(c); at != "" {
		return nil, fmt.Errorf("a field of %s is not known", at)
	}
	common := c.GetCommonTlsContext()
	out := &config.UpstreamTLS{SNI: c.GetSni(), ALPN: common.GetAlpnProtocols()}
	out.MinMinor = tlsMinor(common.GetTlsParams().GetTlsMinimumProtocolVersion())
	out.MaxMinor = tlsMinor(common.GetTlsParams().GetTlsMaximumProtocolVersion())
	v := common.GetValidationContext()
	if comb := common.GetCombinedValidationContext(); comb != nil {
		v = comb.GetDefaultValidationContext()
		out.CA = r.secret(comb.GetValidationContextSdsSecretConfig())
	} else if s := common.GetValidationContextSdsSecretConfig(); s != nil {
		out.CA = r.secret(s)
	}
	if f := v.GetTrustedCa().GetFilename(); f != "" {
		out.CA = f
	}
	for _, m := range v.GetMatchSubjectAltNames() {
		if m.GetExact() == "" || m.GetIgnoreCase() {
			return nil, errString("a subject alternative name other than an exact one is not supported")
		}
		out.SANs = append(out.SANs, m.GetExact())
	}
	for _, m := range v.GetMatchTypedSubjectAltNames() {
		if e := m.GetMatcher().GetExact(); e == "" || m.GetMatcher().GetIgnoreCase() {
			return nil, errString("a subject alternative name other than an exact one is not supported")
		} else if !slices.Contains(out.SANs, e) {
			out.SANs = append(out.SANs, e)
		}
	}
	if len(v.GetVerifyCertificateHash())+len(v.GetVerifyCertificateSpki()) > 0 || v.GetCrl() != nil || v.GetCustomValidatorConfig() != nil {
		return nil, errString("certificate hashes, CRLs and custom validators are not supported")
	}
	if certs := common.GetTlsCertificateSdsSecretConfigs(); len(certs) > 0 {
		out.Cert = r.secret(certs[0])
		if cert, key, ok := strings.Cut(out.Cert, "~"); ok {
			out.Cert, out.Key = cert, key
		}
	}
	return out, nil
}

// secret returns what an SDS name stands for: "system", a file, or a secret that
// istiod is asked for.
func (r *clusterReader) secret(s *tlsv3.SdsSecretConfig) string {
	name := s.GetName()
	for _, p := range []string{"file-root:", "file-cert:"} {
		if f, ok := strings.CutPrefix(name, p); ok {
			return f
		}
	}
	if name != "" && name != "default" && name != "ROOTCA" && !slices.Contains(r.c.secrets, name) {
		r.c.secrets = append(r.c.secrets, name)
	}
	return name
}

func tlsMinor(v tlsv3.TlsParameters_TlsProtocol) uint8 {
	switch v {
	case tlsv3.TlsParameters_TLSv1_2:
		return 2
	case tlsv3.TlsParameters_TLSv1_3:
		return 3
	}
	return 0
}
