package istiod

import (
	"crypto/tls"
	"fmt"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"waypoint.dev/waypoint/config"
)

// upstreamTLS translates TLS towards a backend. What it cannot say makes the
// backend fail: a connection that verifies less than asked for is none.
func (r *clusterReader) upstreamTLS(c *tlsv3.UpstreamTlsContext) (*config.UpstreamTLS, error) {
	if at := unknownField(c); at != "" {
		return nil, fmt.Errorf("a field of %s is not known", at)
	}
	common := c.GetCommonTlsContext()
	out := &config.UpstreamTLS{SNI: c.GetSni(), ALPN: common.GetAlpnProtocols()}
	if err := tlsParams(out, common.GetTlsParams()); err != nil {
		return nil, err
	}
	v := common.GetValidationContext()
	var err error
	if comb := common.GetCombinedValidationContext(); comb != nil {
		v = comb.GetDefaultValidationContext()
		out.CA, err = r.secret(comb.GetValidationContextSdsSecretConfig())
	} else if s := common.GetValidationContextSdsSecretConfig(); s != nil {
		out.CA, err = r.secret(s)
	}
	if err != nil {
		return nil, err
	}
	if err := validation(out, v); err != nil {
		return nil, err
	}
	if common.GetValidationContextCertificateProvider() != nil || common.GetValidationContextCertificateProviderInstance() != nil || c.GetAutoSniSanValidation() {
		return nil, errString("roots of a certificate provider, and names by auto_sni_san_validation, are not supported")
	}
	if len(common.GetTlsCertificates()) > 0 || common.GetTlsCertificateProviderInstance() != nil || common.GetCustomHandshaker() != nil {
		return nil, errString("certificates other than those of SDS are not supported")
	}
	if certs := common.GetTlsCertificateSdsSecretConfigs(); len(certs) > 0 {
		if out.Cert, err = r.secret(certs[0]); err != nil {
			return nil, err
		}
		if cert, key, ok := strings.Cut(out.Cert, "~"); ok {
			out.Cert, out.Key = cert, key
		}
	}
	return out, nil
}

// validation translates how the server's certificate is verified.
func validation(out *config.UpstreamTLS, v *tlsv3.CertificateValidationContext) error {
	switch ca := v.GetTrustedCa(); {
	case v.GetSystemRootCerts() != nil && ca == nil && out.CA == "":
		out.CA = "system"
	case ca == nil:
	case ca.GetFilename() != "":
		out.CA = ca.GetFilename()
	default:
		return errString("a trusted_ca other than a file is not supported")
	}
	for _, m := range v.GetMatchSubjectAltNames() {
		if m.GetExact() == "" || m.GetIgnoreCase() {
			return errString("a subject alternative name other than an exact one is not supported")
		}
		out.SANs = append(out.SANs, m.GetExact())
	}
	for _, m := range v.GetMatchTypedSubjectAltNames() {
		if e := m.GetMatcher().GetExact(); e == "" || m.GetMatcher().GetIgnoreCase() {
			return errString("a subject alternative name other than an exact one is not supported")
		} else if !slices.Contains(out.SANs, e) {
			out.SANs = append(out.SANs, e)
		}
	}
	if v.GetCrl() != nil {
		if out.CRL = v.GetCrl().GetFilename(); out.CRL == "" {
			return errString("a crl other than a file is not supported")
		}
	}
	if v.GetCaCertificateProviderInstance() != nil || v.GetRequireSignedCertificateTimestamp().GetValue() || v.GetMaxVerifyDepth() != nil || v.GetOnlyVerifyLeafCertCrl() {
		return errString("certificate providers, signed timestamps, and bounds of verification are not supported")
	}
	if len(v.GetVerifyCertificateHash())+len(v.GetVerifyCertificateSpki()) > 0 || v.GetCustomValidatorConfig() != nil {
		return errString("certificate hashes and custom validators are not supported")
	}
	return nil
}

// secret returns what an SDS name stands for: "system", a file, the waypoint's own
// certificate or roots, or a secret that istiod is asked for.
func (r *clusterReader) secret(s *tlsv3.SdsSecretConfig) (string, error) {
	name := s.GetName()
	for _, p := range []string{"file-root:", "file-cert:"} {
		if f, ok := strings.CutPrefix(name, p); ok {
			return f, nil
		}
	}
	switch {
	case name == "", name == config.SecretOwn, name == config.SecretRoots:
		return name, nil
	case s.GetSdsConfig() != nil && s.GetSdsConfig().GetAds() == nil:
		return "", fmt.Errorf("secret %s: a server of secrets other than istiod is not supported", name)
	}
	if !slices.Contains(r.c.secrets, name) {
		r.c.secrets = append(r.c.secrets, name)
	}
	return name, nil
}

// tlsCurves and tlsCiphers are named as in BoringSSL. Cipher suites that Go does
// not have, or no longer offers, are left out.
var (
	tlsCurves = map[string]tls.CurveID{
		"P-256": tls.CurveP256, "P-384": tls.CurveP384, "P-521": tls.CurveP521, "X25519": tls.X25519, "X25519MLKEM768": tls.X25519MLKEM768,
	}
	tlsCiphers = map[string]uint16{
		"ECDHE-ECDSA-AES128-GCM-SHA256": tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
		"ECDHE-RSA-AES128-GCM-SHA256":   tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
		"ECDHE-ECDSA-AES256-GCM-SHA384": tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
		"ECDHE-RSA-AES256-GCM-SHA384":   tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
		"ECDHE-ECDSA-CHACHA20-POLY1305": tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
		"ECDHE-RSA-CHACHA20-POLY1305":   tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		"ECDHE-ECDSA-AES128-SHA":        tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA,
		"ECDHE-RSA-AES128-SHA":          tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA,
		"ECDHE-ECDSA-AES256-SHA":        tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA,
		"ECDHE-RSA-AES256-SHA":          tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA,
	}
)

// tlsParams translates versions, key exchanges and cipher suites.
func tlsParams(out *config.UpstreamTLS, p *tlsv3.TlsParameters) error {
	out.MinMinor = tlsMinor(p.GetTlsMinimumProtocolVersion())
	out.MaxMinor = tlsMinor(p.GetTlsMaximumProtocolVersion())
	for _, n := range p.GetEcdhCurves() {
		if id, ok := tlsCurves[n]; ok {
			out.Curves = append(out.Curves, id)
		}
	}
	if len(p.GetEcdhCurves()) > 0 && out.Curves == nil {
		return fmt.Errorf("none of the ecdh_curves %q is known", p.GetEcdhCurves())
	}
	for _, n := range p.GetCipherSuites() {
		// BoringSSL writes alternatives of equal rank as [a|b].
		for x := range strings.SplitSeq(strings.Trim(n, "[]"), "|") {
			if id, ok := tlsCiphers[x]; ok {
				out.Ciphers = append(out.Ciphers, id)
			}
		}
	}
	if len(p.GetCipherSuites()) > 0 && out.Ciphers == nil && out.MaxMinor == 2 {
		return fmt.Errorf("none of the cipher_suites %q is known", p.GetCipherSuites())
	}
	return nil
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

// dataSource returns the bytes of a source that carries them itself.
func dataSource(d *corev3.DataSource) []byte {
	if b := d.GetInlineBytes(); len(b) > 0 {
		return b
	}
	return []byte(d.GetInlineString())
}
