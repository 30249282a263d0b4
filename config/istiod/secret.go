package istiod

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"maps"

	"google.golang.org/protobuf/proto"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"waypoint.dev/waypoint/config"
)

// setSecret takes a certificate or a set of roots that clusters name. One of equal
// content keeps its pointer, and connections made with it.
func (w *World) setSecret(r *Resource) error {
	var s tlsv3.Secret
	if err := proto.Unmarshal(r.Body, &s); err != nil {
		return err
	}
	cert, v := s.GetTlsCertificate(), s.GetValidationContext()
	out := &config.Secret{
		Chain: dataSource(cert.GetCertificateChain()), Key: dataSource(cert.GetPrivateKey()),
		Roots: dataSource(v.GetTrustedCa()), CRL: dataSource(v.GetCrl()),
	}
	if len(out.Chain) == 0 && len(out.Roots) == 0 {
		return errString("holds neither a certificate nor roots inline")
	}
	if len(out.Chain) > 0 && len(out.Key) == 0 {
		return errString("holds a certificate without its key")
	}
	if old := w.secrets[r.Name]; old != nil && bytes.Equal(old.Chain, out.Chain) && bytes.Equal(old.Key, out.Key) &&
		bytes.Equal(old.Roots, out.Roots) && bytes.Equal(old.CRL, out.CRL) {
		return nil
	}
	if err := checkSecret(out); err != nil {
		return err
	}
	w.secrets[r.Name] = out
	w.stale.backends, w.stale.problems = true, true
	return nil
}

// checkSecret refuses what no connection could be made with: as with Envoy, the last
// good version stays in use while its Secret is wrong.
func checkSecret(s *config.Secret) error {
	if len(s.Chain) > 0 {
		if _, err := tls.X509KeyPair(s.Chain, s.Key); err != nil {
			return fmt.Errorf("its certificate and key: %w", err)
		}
	}
	if len(s.Roots) > 0 && !x509.NewCertPool().AppendCertsFromPEM(s.Roots) {
		return errString("its roots hold no PEM certificate")
	}
	for rest := s.CRL; len(rest) > 0; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if _, err := x509.ParseRevocationList(block.Bytes); err != nil {
			return fmt.Errorf("its revocation list: %w", err)
		}
	}
	return nil
}

// secretsOf returns what was sent of the secrets that a cluster names; nil if it
// names none.
func (w *World) secretsOf(c *cluster) map[string]*config.Secret {
	if len(c.secrets) == 0 {
		return nil
	}
	out := make(map[string]*config.Secret, len(c.secrets))
	for _, n := range c.secrets {
		out[n] = w.secrets[n]
	}
	return out
}

func sameSecrets(t *config.UpstreamTLS, now map[string]*config.Secret) bool {
	return t == nil || maps.Equal(t.Secrets, now)
}
