package istiod

import (
	"crypto/tls"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/identity"
)

// tlsCluster is a cluster with an UpstreamTlsContext, as istiod wraps it.
func tlsCluster(t *testing.T, name, context string) Resource {
	t.Helper()
	c := parse(t, &clusterv3.Cluster{}, `{"name":"`+name+`","type":"STATIC","transport_socket":{"name":"internal_upstream","typed_config":{
		"@type":"type.googleapis.com/envoy.extensions.transport_sockets.internal_upstream.v3.InternalUpstreamTransport",
		"transport_socket":{"name":"tls","typed_config":{"@type":"type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",`+context+`}}}}}`)
	return Resource{name, "1", wire(t, c)}
}

func sds(name string) string {
	return `{"name":"` + name + `","sds_config":{"ads":{},"resource_api_version":"V3"}}`
}

func secret(t *testing.T, name, body string) Resource {
	t.Helper()
	return Resource{name, "1", wire(t, parse(t, &tlsv3.Secret{}, `{"name":"`+name+`",`+body+`}`))}
}

// TestSecrets follows what DestinationRule's credentialName becomes: a cluster that
// names secrets, which come, rotate and go by themselves.
func TestSecrets(t *testing.T) {
	const name, cred, ca = "inbound-vip|80|http|a", "kubernetes://bank", "kubernetes://bank-cacert"
	w := NewWorld(Options{})
	apply := func(typ string, rs []Resource, gone ...string) *config.Backend {
		t.Helper()
		for _, err := range w.Apply(typ, rs, gone) {
			t.Error(err)
		}
		return w.Model().Backends[name]
	}
	b := apply(ClusterType, []Resource{tlsCluster(t, name, `"common_tls_context":{"tls_certificate_sds_secret_configs":[`+sds(cred)+`],
		"combined_validation_context":{"default_validation_context":{"match_subject_alt_names":[{"exact":"bank.example"}]},"validation_context_sds_secret_config":`+sds(ca)+`}}`),
		tlsCluster(t, "other", `"common_tls_context":{}`)})
	other := w.Model().Backends["other"]
	if want := []string{cred, ca}; !slices.Equal(w.Wanted(SecretType), want) {
		t.Errorf("wants %q, want %q", w.Wanted(SecretType), want)
	}
	if s, ok := b.TLS.Secrets[cred]; s != nil || !ok || b.TLS.Cert != cred || b.TLS.CA != ca || b.Missing != "" {
		t.Errorf("before the secrets came: %+v", b.TLS)
	}
	waits := func() (n int) {
		for _, p := range w.Model().Problems {
			if p.Kind == "Secret" {
				n++
			}
		}
		return n
	}
	if waits() != 2 {
		t.Errorf("problems %+v", w.Model().Problems)
	}
	authority, err := identity.NewCA("cluster.local")
	if err != nil {
		t.Fatal(err)
	}
	pair := func() (body, key string) {
		svid, err := authority.Issue("shop", "bank", time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		c, k, err := svid.PEM()
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf(`"tls_certificate":{"certificate_chain":{"inline_string":%q},"private_key":{"inline_string":%q}}`, c, k), string(k)
	}
	roots := string(authority.Bundle().PEM)
	first, key := pair()
	both := []Resource{secret(t, cred, first), secret(t, ca, fmt.Sprintf(`"validation_context":{"trusted_ca":{"inline_string":%q}}`, roots))}
	now := apply(SecretType, both)
	if now == b || waits() != 0 {
		t.Errorf("the secrets changed nothing: %+v", w.Model().Problems)
	}
	if s, r := now.TLS.Secrets[cred], now.TLS.Secrets[ca]; len(s.Chain) == 0 || string(s.Key) != key || string(r.Roots) != roots {
		t.Errorf("%+v %+v", s, r)
	}
	if apply(SecretType, both) != now {
		t.Error("the same secrets again made another backend")
	}
	second, key2 := pair()
	rotated := apply(SecretType, []Resource{secret(t, cred, second)})
	if rotated == now || string(rotated.TLS.Secrets[cred].Key) != key2 || rotated.TLS.Secrets[ca] != now.TLS.Secrets[ca] {
		t.Errorf("rotated %+v", rotated.TLS)
	}
	if string(now.TLS.Secrets[cred].Key) != key {
		t.Error("a model that was given changed")
	}
	// What is wrong is refused by name, and the last good version stays.
	mixed := first[:strings.Index(first, `"private_key"`)] + second[strings.Index(second, `"private_key"`):]
	for _, bad := range []struct{ name, body, says string }{
		{cred, `"tls_certificate":{"certificate_chain":{"inline_string":"x"}}`, "without its key"},
		{cred, `"tls_certificate":{"certificate_chain":{"inline_string":"x"},"private_key":{"inline_string":"y"}}`, "certificate and key"},
		{cred, mixed, "does not match"},
		{cred, `"generic_secret":{}`, "neither"},
		{ca, `"validation_context":{"trusted_ca":{"inline_string":"x"}}`, "roots"},
		{ca, fmt.Sprintf(`"validation_context":{"trusted_ca":{"inline_string":%q},"crl":{"inline_string":%q}}`, roots, "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n"), "revocation"},
	} {
		errs := w.Apply(SecretType, []Resource{secret(t, bad.name, bad.body)}, nil)
		if len(errs) != 1 || !strings.Contains(errs[0].Error(), bad.says) || strings.Contains(errs[0].Error(), "PRIVATE") {
			t.Errorf("%s: %v, want %q", bad.body, errs, bad.says)
		}
		if got := w.Model().Backends[name]; got != rotated {
			t.Errorf("%s: the last good secret is not used any more", bad.body)
		}
	}
	if gone := apply(SecretType, nil, cred); gone.TLS.Secrets[cred] != nil {
		t.Error("a removed secret is still used")
	}
	if w.Model().Backends["other"] != other {
		t.Error("a cluster without secrets was disturbed")
	}
}

// TestUpstreamTLS reads what istiod writes into an UpstreamTlsContext.
func TestUpstreamTLS(t *testing.T) {
	for _, tt := range []struct {
		name, context string
		check         func(*config.UpstreamTLS) bool
		missing       string
	}{
		{"files", `"common_tls_context":{"tls_certificate_sds_secret_configs":[{"name":"file-cert:/c.pem~/k.pem"}],"combined_validation_context":{"default_validation_context":{"crl":{"filename":"/crl.pem"}},"validation_context_sds_secret_config":{"name":"file-root:system"}}}`,
			func(u *config.UpstreamTLS) bool {
				return u.Cert == "/c.pem" && u.Key == "/k.pem" && u.CA == "system" && u.CRL == "/crl.pem" && u.Secrets == nil
			}, ""},
		{"own", `"common_tls_context":{"tls_certificate_sds_secret_configs":[{"name":"default","sds_config":{"api_config_source":{}}}],"validation_context_sds_secret_config":{"name":"ROOTCA"}}`,
			func(u *config.UpstreamTLS) bool {
				return u.Cert == config.SecretOwn && u.CA == config.SecretRoots && u.Secrets == nil
			}, ""},
		{"pqc", `"common_tls_context":{"tls_params":{"ecdh_curves":["X25519MLKEM768"],"tls_minimum_protocol_version":"TLSv1_3"}}`,
			func(u *config.UpstreamTLS) bool {
				return slices.Equal(u.Curves, []tls.CurveID{tls.X25519MLKEM768}) && u.MinMinor == 3
			}, ""},
		{"fips", `"common_tls_context":{"tls_params":{"ecdh_curves":["P-256","kyber"],"cipher_suites":["[ECDHE-RSA-AES128-GCM-SHA256|AES128-GCM-SHA256]"],"tls_maximum_protocol_version":"TLSv1_2"}}`,
			func(u *config.UpstreamTLS) bool {
				return slices.Equal(u.Curves, []tls.CurveID{tls.CurveP256}) && slices.Equal(u.Ciphers, []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}) && u.MaxMinor == 2
			}, ""},
		{"unknown curves", `"common_tls_context":{"tls_params":{"ecdh_curves":["kyber"]}}`, nil, "ecdh_curves"},
		{"unknown ciphers", `"common_tls_context":{"tls_params":{"cipher_suites":["NULL"],"tls_maximum_protocol_version":"TLSv1_2"}}`, nil, "cipher_suites"},
		{"other server of secrets", `"common_tls_context":{"validation_context_sds_secret_config":{"name":"sds://x","sds_config":{"api_config_source":{}}}}`, nil, "sds://x"},
		{"inline certificate", `"common_tls_context":{"tls_certificates":[{}]}`, nil, "certificates"},
		{"inline roots", `"common_tls_context":{"validation_context":{"trusted_ca":{"inline_string":"x"}}}`, nil, "trusted_ca"},
		{"inline crl", `"common_tls_context":{"validation_context":{"crl":{"inline_string":"x"}}}`, nil, "crl"},
		{"hash", `"common_tls_context":{"validation_context":{"verify_certificate_hash":["x"]}}`, nil, "hashes"},
		{"roots of the system", `"common_tls_context":{"validation_context":{"system_root_certs":{}}}`, func(u *config.UpstreamTLS) bool { return u.CA == "system" }, ""},
		{"roots of a provider", `"common_tls_context":{"validation_context":{"ca_certificate_provider_instance":{"instance_name":"x"}}}`, nil, "certificate providers"},
		{"context of a provider", `"common_tls_context":{"validation_context_certificate_provider_instance":{"instance_name":"x"}}`, nil, "certificate provider"},
		{"names by the authority", `"auto_sni_san_validation":true`, nil, "auto_sni_san_validation"},
		{"depth", `"common_tls_context":{"validation_context":{"max_verify_depth":1}}`, nil, "bounds of verification"},
		{"prefix name", `"common_tls_context":{"validation_context":{"match_subject_alt_names":[{"prefix":"x"}]}}`, nil, "subject alternative name"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := NewWorld(Options{})
			for _, err := range w.Apply(ClusterType, []Resource{tlsCluster(t, "c", tt.context)}, nil) {
				t.Fatal(err)
			}
			b := w.Model().Backends["c"]
			switch {
			case tt.missing != "":
				if !strings.Contains(b.Missing, tt.missing) {
					t.Errorf("missing %q, want %q in it", b.Missing, tt.missing)
				}
			case b.Missing != "" || b.TLS == nil || !tt.check(b.TLS):
				t.Errorf("%q %+v", b.Missing, b.TLS)
			}
		})
	}
}
