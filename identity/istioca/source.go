package istioca

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	mrand "math/rand/v2"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"
	pb "istio.io/api/security/v1alpha1"

	"waypoint.dev/waypoint/identity"
)

// Istio agent's defaults (pilot/cmd/pilot-agent/options, security/pkg/nodeagent).
const (
	defaultTTL    = 24 * time.Hour // SECRET_TTL
	attempts      = 5
	firstPause    = 100 * time.Millisecond // doubles, jitter 0.1
	callTimeout   = 10 * time.Second
	retryInterval = 10 * time.Second // after all attempts failed and a certificate is still valid
	rootPoll      = 5 * time.Second  // the mounted root file is looked at so often
)

// Grace says when a certificate is renewed: when Ratio of the life that it had when it
// came is left, give or take Jitter; both between 0 and 1. The zero value is
// [DefaultGrace].
type Grace struct{ Ratio, Jitter float64 }

// DefaultGrace is Istio's: SECRET_GRACE_PERIOD_RATIO and SECRET_GRACE_PERIOD_RATIO_JITTER.
var DefaultGrace = Grace{0.5, 0.01}

// Options of a Source. Conn and TrustDomain are required.
type Options struct {
	Conn         grpc.ClientConnInterface // to CA_ADDR, with token and ClusterID as call credentials
	TrustDomain  string
	TrustAliases []string
	Namespace    string
	Account      string // service account
	TTL          time.Duration
	Grace        Grace
	CertSigner   string // ISTIO_META_CERT_SIGNER
	RootFile     string // mounted mesh root, followed; empty: only what the CA answers
	Log          *slog.Logger
}

// Source is an identity.Source fed by istiod's CA.
type Source struct {
	identity.Store

	// Fixed after New.
	opts   Options
	log    *slog.Logger
	client pb.IstioCertificateServiceClient
	cancel context.CancelFunc
	done   chan struct{}

	mu      sync.Mutex
	caRoots []byte   // guarded by mu: PEM from the CA's last answer
	file    []byte   // guarded by mu: PEM of RootFile
	domains []string // guarded by mu
}

// New asks for the first certificate and returns when it came; ctx bounds the
// wait. It retries for as long as ctx allows, since istiod may start later.
func New(ctx context.Context, o Options) (*Source, error) {
	if o.TTL <= 0 {
		o.TTL = defaultTTL
	}
	if o.Grace == (Grace{}) {
		o.Grace = DefaultGrace
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Source{opts: o, log: o.Log, client: pb.NewIstioCertificateServiceClient(o.Conn), done: make(chan struct{}),
		domains: append([]string{o.TrustDomain}, o.TrustAliases...)}
	s.readRoots()
	for {
		err := s.renew(ctx)
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("istioca: no certificate from the CA: %w", err)
		}
		s.log.Warn("no certificate yet; asking again", "error", err)
		if !pause(ctx, time.Second) {
			return nil, fmt.Errorf("istioca: no certificate from the CA: %w", err)
		}
	}
	run, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	go s.run(run)
	return s, nil
}

// SetTrustDomains replaces the trust domains, the mesh's own first, as the
// control plane learns or tells of aliases.
func (s *Source) SetTrustDomains(domains []string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.Equal(s.domains, domains) {
		return nil
	}
	s.domains = slices.Clone(domains)
	return s.publishLocked(nil)
}

// Close implements identity.Source.
func (s *Source) Close() error {
	s.cancel()
	<-s.done
	return nil
}

func (s *Source) run(ctx context.Context) {
	defer close(s.done)
	renew := time.NewTimer(s.renewIn())
	defer renew.Stop()
	roots := time.NewTicker(rootPoll)
	defer roots.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-roots.C:
			if s.readRoots() {
				s.mu.Lock()
				err := s.publishLocked(nil)
				s.mu.Unlock()
				if err != nil {
					s.log.Error("the mounted root certificate is unusable; the last good ones stay trusted", "file", s.opts.RootFile, "error", err)
				}
			}
		case <-renew.C:
			if err := s.renew(ctx); err != nil {
				s.log.Error("the certificate was not renewed; the present one stays in use", "ends", s.SVID().NotAfter, "error", err)
				renew.Reset(retryInterval)
				continue
			}
			renew.Reset(s.renewIn())
		}
	}
}

// renewIn is the time until no more than Options.Grace is left of a certificate that has
// just come, jittered so that replicas do not ask all at once. Its start is
// not looked at, as in Istio's agent: istiod dates it two minutes back against
// clock skew, and with a life of minutes half of the whole may be over at once.
func (s *Source) renewIn() time.Duration {
	left, g := time.Until(s.SVID().NotAfter), s.opts.Grace
	ratio := min(g.Ratio+g.Jitter*(2*mrand.Float64()-1), 1)
	return max(time.Duration(float64(left)*(1-max(ratio, 0))), time.Second)
}

// renew gets one certificate, with the agent's retries.
func (s *Source) renew(ctx context.Context) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	csr, err := s.request(key)
	if err != nil {
		return err
	}
	wait := firstPause
	for i := 0; ; i++ {
		var chain []string
		if chain, err = s.call(ctx, csr); err == nil {
			return s.accept(chain, key)
		}
		if i == attempts-1 || !retriable(status.Code(err)) {
			return err
		}
		if !pause(ctx, time.Duration(float64(wait)*(0.9+0.2*mrand.Float64()))) {
			return err
		}
		wait *= 2
	}
}

func (s *Source) call(ctx context.Context, csr string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	req := &pb.IstioCertificateRequest{Csr: csr, ValidityDuration: int64(s.opts.TTL / time.Second)}
	if s.opts.CertSigner != "" {
		req.Metadata = &structpb.Struct{Fields: map[string]*structpb.Value{"CertSigner": structpb.NewStringValue(s.opts.CertSigner)}}
	}
	res, err := s.client.CreateCertificate(ctx, req)
	if err != nil {
		return nil, err
	}
	return res.CertChain, nil
}

func retriable(c codes.Code) bool {
	switch c {
	case codes.Canceled, codes.DeadlineExceeded, codes.ResourceExhausted, codes.Aborted, codes.Internal, codes.Unavailable:
		return true
	}
	return false
}

// request makes the CSR. istiod takes the identity from the token, not from here.
func (s *Source) request(key crypto.Signer) (string, error) {
	u, err := url.Parse(identity.URI(s.opts.TrustDomain, s.opts.Namespace, s.opts.Account))
	if err != nil {
		return "", err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{URIs: []*url.URL{u}}, key)
	if err != nil {
		return "", err
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})), nil
}

// errShortChain: leaf and root at least (istio: pkg/security, CA client).
var errShortChain = errors.New("istioca: the CA's answer holds no root certificate")

// accept publishes a chain: leaf, intermediates, and the root bundle as its last element.
func (s *Source) accept(chain []string, key crypto.Signer) error {
	if len(chain) < 2 {
		return errShortChain
	}
	pair := tls.Certificate{PrivateKey: key}
	for _, p := range chain[:len(chain)-1] {
		for rest := []byte(p); ; {
			var b *pem.Block
			if b, rest = pem.Decode(rest); b == nil {
				break
			}
			pair.Certificate = append(pair.Certificate, b.Bytes)
		}
	}
	svid, err := identity.NewSVID(pair)
	if err != nil {
		return fmt.Errorf("istioca: the CA's certificate: %w", err)
	}
	if pub, ok := svid.Certificate.Leaf.PublicKey.(*ecdsa.PublicKey); !ok || !pub.Equal(key.Public()) {
		return errors.New("istioca: the CA's certificate is for another key")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.caRoots = []byte(chain[len(chain)-1])
	if err := s.publishLocked(svid); err != nil {
		return fmt.Errorf("istioca: the CA's root: %w", err)
	}
	s.log.Info("certificate", "identity", svid.Principal.URI, "serial", svid.Certificate.Leaf.SerialNumber.Text(16), "ends", svid.NotAfter)
	return nil
}

// publishLocked publishes svid, if any, with the union of all known roots.
func (s *Source) publishLocked(svid *identity.SVID) error {
	roots := bytes.TrimSpace(s.caRoots)
	if f := bytes.TrimSpace(s.file); len(f) > 0 && !bytes.Contains(roots, f) {
		roots = bytes.Join([][]byte{roots, f}, []byte("\n"))
	}
	b, err := identity.NewBundle(roots, s.domains)
	if err != nil {
		return err
	}
	if old := s.Bundle(); old != nil && bytes.Equal(old.PEM, b.PEM) && slices.Equal(old.TrustDomains, b.TrustDomains) {
		b = nil
	}
	if svid != nil || b != nil {
		s.Set(svid, b)
	}
	return nil
}

// readRoots reads the mounted root file and reports a change.
func (s *Source) readRoots() bool {
	if s.opts.RootFile == "" {
		return false
	}
	b, err := os.ReadFile(s.opts.RootFile)
	if err != nil {
		if !os.IsNotExist(err) {
			s.log.Warn("the mounted root certificate cannot be read", "error", err)
		}
		return false
	}
	if !strings.Contains(string(b), "BEGIN CERTIFICATE") {
		return false // being written
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if bytes.Equal(s.file, b) {
		return false
	}
	s.file = b
	return true
}

func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
