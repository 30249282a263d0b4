package testmesh

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"
	pb "istio.io/api/security/v1alpha1"

	"waypoint.dev/waypoint/config/istiod"
	"waypoint.dev/waypoint/identity"
)

// IstiodName is what the fake istiod's TLS certificate is for.
const IstiodName = "istiod.istio-system.svc"

// Account is whom a token stands for.
type Account struct{ Namespace, Name string }

// Refusal is a NACK as istiod sees it.
type Refusal struct{ Type, Reason string }

// Istiod is a control plane: delta ADS and the CA over TLS, both for holders of a
// token. Like istiod it sends every cluster and listener again when one changes,
// and of the other types only what changed.
type Istiod struct {
	RootPEM []byte // verifies its TLS certificate

	// Fixed after NewIstiod.
	ca   *identity.CA
	cert tls.Certificate
	addr string

	mu        sync.Mutex
	ttl       time.Duration // of certificates
	version   string        // that it says of itself
	accounts  map[string]Account
	resources map[string]map[string]*discovery.Resource
	serial    int
	streams   map[*adsStream]struct{}
	nodes     []*corev3.Node
	acks      map[string]int
	refusals  []Refusal
	issued    int
	server    *grpc.Server
	done      chan struct{}
}

// NewIstiod starts one on a free loopback port. Certificates it signs live for ttl.
func NewIstiod(ca *identity.CA, ttl time.Duration) (*Istiod, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), DNSNames: []string{IstiodName}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	s := &Istiod{
		RootPEM: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		ca:      ca, cert: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, addr: "127.0.0.1:0", ttl: ttl, version: "1.31.1",
		accounts: map[string]Account{}, resources: map[string]map[string]*discovery.Resource{}, streams: map[*adsStream]struct{}{}, acks: map[string]int{},
	}
	return s, s.Start()
}

// Addr is where it listens, also while it is stopped.
func (s *Istiod) Addr() string { return s.addr }

// Start listens again after Stop, on the same address.
func (s *Istiod) Start() error {
	ln, err := net.Listen("tcp", s.addr)
	if err != nil {
		return fmt.Errorf("testmesh: istiod: %w", err)
	}
	g := grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{s.cert}})))
	discovery.RegisterAggregatedDiscoveryServiceServer(g, &adsServer{s: s})
	pb.RegisterIstioCertificateServiceServer(g, &caServer{s: s})
	done := make(chan struct{})
	s.mu.Lock()
	s.addr, s.server, s.done = ln.Addr().String(), g, done
	s.mu.Unlock()
	go func() { g.Serve(ln); close(done) }()
	return nil
}

// Stop is a control plane that is gone.
func (s *Istiod) Stop() {
	s.mu.Lock()
	g, done := s.server, s.done
	s.mu.Unlock()
	g.Stop()
	<-done
}

// GoAway is what istiod does to each connection after 30 minutes: no new streams,
// and the open ones end.
func (s *Istiod) GoAway() error {
	s.mu.Lock()
	g, done := s.server, s.done
	s.mu.Unlock()
	graceful := make(chan struct{})
	go func() { g.GracefulStop(); close(graceful) }()
	s.Disconnect()
	<-graceful
	<-done
	return s.Start()
}

// Disconnect ends every stream.
func (s *Istiod) Disconnect() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for st := range s.streams {
		st.end()
	}
}

// Close is Stop.
func (s *Istiod) Close() { s.Stop() }

// Token makes a service account token.
func (s *Istiod) Token(a Account) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.serial++
	t := "token-" + strconv.Itoa(s.serial)
	s.accounts[t] = a
	return t
}

// SetVersion changes what it says it is.
func (s *Istiod) SetVersion(v string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version = v
}

// SetTTL changes the life of certificates.
func (s *Istiod) SetTTL(ttl time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ttl = ttl
}

// Push sets and removes resources of one type, and sends them.
func (s *Istiod) Push(url string, set map[string]*anypb.Any, remove ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.resources[url]
	if m == nil {
		m = map[string]*discovery.Resource{}
		s.resources[url] = m
	}
	s.serial++
	for name, a := range set {
		m[name] = &discovery.Resource{Name: name, Version: strconv.Itoa(s.serial), Resource: a}
	}
	for _, name := range remove {
		delete(m, name)
	}
	changed := slices.Sorted(maps.Keys(set))
	if url == istiod.ClusterType || url == istiod.ListenerType {
		changed = slices.Sorted(maps.Keys(m))
	}
	for st := range s.streams {
		st.send(url, changed, remove)
	}
}

// Resource returns a resource as it would be sent; nil if there is none.
func (s *Istiod) Resource(url, name string) *anypb.Any {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.resources[url][name].GetResource()
}

// Names lists the resources of a type.
func (s *Istiod) Names(url string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.resources[url]))
}

// Subscribed lists the names that open streams subscribe to of a type.
func (s *Istiod) Subscribed(url string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := map[string]bool{}
	for st := range s.streams {
		maps.Copy(all, st.names[url])
	}
	return slices.Sorted(maps.Keys(all))
}

// Streams is how many streams are open.
func (s *Istiod) Streams() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.streams)
}

// Acks is how many responses of a type were taken.
func (s *Istiod) Acks(url string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.acks[url]
}

// Refusals lists the NACKs.
func (s *Istiod) Refusals() []Refusal {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.refusals)
}

// Nodes lists the node of each stream so far.
func (s *Istiod) Nodes() []*corev3.Node {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.nodes)
}

// Issued is how many certificates were signed.
func (s *Istiod) Issued() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.issued
}

// account checks the token of a call.
func (s *Istiod) account(md metadata.MD) (Account, error) {
	for _, v := range md.Get("authorization") {
		if token, ok := strings.CutPrefix(v, "Bearer "); ok {
			s.mu.Lock()
			a, ok := s.accounts[token]
			s.mu.Unlock()
			if ok && len(md.Get("clusterid")) == 1 {
				return a, nil
			}
		}
	}
	return Account{}, grpcstatus.Error(codes.Unauthenticated, "no valid token, or no ClusterID")
}
