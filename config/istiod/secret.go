package istiod

import (
	"google.golang.org/protobuf/proto"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
)

// Secret is a certificate or a set of roots that clusters name.
type Secret struct {
	Chain, Key []byte // PEM
	Roots      []byte // PEM
}

// Secret returns the secret of that name, nil if it was not sent.
func (w *World) Secret(name string) *Secret { return w.secrets[name] }

func (w *World) setSecret(r *Resource) error {
	var s tlsv3.Secret
	if err := proto.Unmarshal(r.Body, &s); err != nil {
		return err
	}
	out := &Secret{
		Chain: inlineBytes(s.GetTlsCertificate().GetCertificateChain().GetInlineBytes(), s.GetTlsCertificate().GetCertificateChain().GetInlineString()),
		Key:   inlineBytes(s.GetTlsCertificate().GetPrivateKey().GetInlineBytes(), s.GetTlsCertificate().GetPrivateKey().GetInlineString()),
		Roots: inlineBytes(s.GetValidationContext().GetTrustedCa().GetInlineBytes(), s.GetValidationContext().GetTrustedCa().GetInlineString()),
	}
	if len(out.Chain) == 0 && len(out.Roots) == 0 {
		return errString("holds neither a certificate nor roots inline")
	}
	w.secrets[r.Name] = out
	return nil
}

func inlineBytes(b []byte, s string) []byte {
	if len(b) > 0 {
		return b
	}
	return []byte(s)
}
