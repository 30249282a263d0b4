package xds

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
)

// Transport says how to reach a control plane.
type Transport struct {
	Address    string // host:port
	ServerName string // empty: the address's host
	RootFile   string // PEM; "SYSTEM": the system's roots; empty: Plaintext must be set
	Plaintext  bool   // no TLS and so no token: istiod's 15010 on a trusted network
	TokenFile  string // bearer token, read again for every call; empty: none
	Metadata   map[string]string
	Curves     []tls.CurveID // key exchanges to offer; nil: Go's choice

	// Certificate is what the client proves itself with, asked at each handshake; nil:
	// with nothing but the token.
	Certificate func() (*tls.Certificate, error)
}

// istio-agent's settings (pkg/istio-agent: xds proxy): keepalive every 30 s,
// answered within 10 s. istiod allows pings every 15 s. Messages of a large mesh
// pass grpc's default of 4 MiB; windows of 1 MiB keep a large push moving.
const (
	keepaliveTime    = 30 * time.Second
	keepaliveTimeout = 10 * time.Second
	dialTimeout      = 5 * time.Second
	window           = 1 << 20
	// A server that is away is dialled again after so long at the latest. grpc's own
	// limit of two minutes would add itself to the pause between streams (Client),
	// which is the one that spares a server that comes back; istio-agent dials anew
	// for each stream.
	redialMax = 5 * time.Second
)

// Dial makes a connection; it connects when first used. The address is resolved at
// each attempt to connect: a name that does not resolve yet, or elsewhere by now, is
// found as soon as DNS knows.
func Dial(t Transport) (*grpc.ClientConn, error) {
	opts, err := t.options()
	if err != nil {
		return nil, err
	}
	return grpc.NewClient(dialTarget+t.Address, opts...)
}

// dialTarget leaves the name to the dialer. grpc's resolver asks DNS every 30 s at most,
// and where a look-up failed, after up to two minutes.
const dialTarget = "passthrough:///"

func (t Transport) options() ([]grpc.DialOption, error) {
	redial := backoff.DefaultConfig
	redial.MaxDelay = redialMax
	opts := []grpc.DialOption{
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveTime, Timeout: keepaliveTimeout}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(math.MaxInt32)),
		grpc.WithInitialWindowSize(window), grpc.WithInitialConnWindowSize(window),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: redial, MinConnectTimeout: dialTimeout}),
	}
	if t.Plaintext {
		opts = append(opts, grpc.WithTransportCredentials(insecure.NewCredentials()))
	} else {
		if _, err := t.roots(); err != nil {
			return nil, err
		}
		opts = append(opts, grpc.WithTransportCredentials(credentials.NewTLS(t.tls())))
	}
	return append(opts, grpc.WithPerRPCCredentials(&bearer{t})), nil
}

// tls verifies the server against the roots as they are at that handshake: the
// file changes when the mesh's root is rotated.
func (t Transport) tls() *tls.Config {
	c := &tls.Config{
		MinVersion:       tls.VersionTLS12,
		ServerName:       t.ServerName,
		CurvePreferences: t.Curves,
		// VerifyConnection below does what this turns off, with fresh roots.
		InsecureSkipVerify: true,
		VerifyConnection: func(cs tls.ConnectionState) error {
			roots, err := t.roots()
			if err != nil {
				return err
			}
			o := x509.VerifyOptions{Roots: roots, DNSName: cs.ServerName, Intermediates: x509.NewCertPool()}
			for _, c := range cs.PeerCertificates[1:] {
				o.Intermediates.AddCert(c)
			}
			_, err = cs.PeerCertificates[0].Verify(o)
			return err
		},
	}
	if t.Certificate != nil {
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return t.Certificate() }
	}
	return c
}

func (t *Transport) roots() (*x509.CertPool, error) {
	if t.RootFile == "SYSTEM" {
		return x509.SystemCertPool()
	}
	b, err := os.ReadFile(t.RootFile)
	if err != nil {
		return nil, fmt.Errorf("xds: the control plane's root certificate: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		return nil, fmt.Errorf("xds: %s holds no PEM certificate", t.RootFile)
	}
	return pool, nil
}

// bearer adds the token and the metadata to every call.
type bearer struct{ t Transport }

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (b *bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	md := make(map[string]string, len(b.t.Metadata)+1)
	for k, v := range b.t.Metadata {
		md[strings.ToLower(k)] = v
	}
	if b.t.TokenFile != "" && !b.t.Plaintext {
		token, err := os.ReadFile(b.t.TokenFile)
		if err != nil {
			return nil, fmt.Errorf("xds: the service account token: %w", err)
		}
		md["authorization"] = "Bearer " + strings.TrimSpace(string(token))
	}
	return md, nil
}

// RequireTransportSecurity keeps a token off plaintext connections.
func (b *bearer) RequireTransportSecurity() bool { return b.t.TokenFile != "" && !b.t.Plaintext }
