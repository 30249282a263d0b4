package xds

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server is a control plane that a test drives by hand.
type server struct {
	discovery.UnimplementedAggregatedDiscoveryServiceServer
	streams chan *conn
}

type conn struct {
	s    discovery.AggregatedDiscoveryService_DeltaAggregatedResourcesServer
	md   metadata.MD
	reqs chan *discovery.DeltaDiscoveryRequest
	end  chan error
}

func (s *server) DeltaAggregatedResources(st discovery.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	md, _ := metadata.FromIncomingContext(st.Context())
	c := &conn{st, md, make(chan *discovery.DeltaDiscoveryRequest, 16), make(chan error, 1)}
	go func() {
		for {
			r, err := st.Recv()
			if err != nil {
				close(c.reqs)
				return
			}
			c.reqs <- r
		}
	}()
	select {
	case s.streams <- c:
	case <-st.Context().Done():
		return nil
	}
	select {
	case err := <-c.end:
		return err
	case <-st.Context().Done():
		return nil
	}
}

// handler records responses and refuses what it is told to.
type handler struct {
	mu     sync.Mutex
	got    chan *Response
	refuse error
}

func (h *handler) Apply(r *Response) error {
	h.mu.Lock()
	err := h.refuse
	h.mu.Unlock()
	h.got <- r
	return err
}

const (
	typeA = "type.googleapis.com/test.A"
	typeB = "type.googleapis.com/test.B"
)

// serve starts a TLS server whose certificate's PEM it returns in a file.
func serve(t *testing.T) (s *server, addr, roots string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"istiod.test"}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	roots = filepath.Join(t.TempDir(), "root.pem")
	os.WriteFile(roots, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})))
	s = &server{streams: make(chan *conn)}
	discovery.RegisterAggregatedDiscoveryServiceServer(g, s)
	done := make(chan struct{})
	go func() { g.Serve(ln); close(done) }()
	t.Cleanup(func() { g.Stop(); <-done })
	return s, ln.Addr().String(), roots
}

func recv[T any](t *testing.T, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(10 * time.Second):
		t.Fatal("nothing came")
	}
	panic("unreachable")
}

func run(t *testing.T, cfg Config) (c *Client) {
	t.Helper()
	c = New(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return c
}

func TestStream(t *testing.T) {
	s, addr, roots := serve(t)
	token := filepath.Join(t.TempDir(), "token")
	os.WriteFile(token, []byte("first\n"), 0o600)
	cc, err := Dial(Transport{Address: addr, ServerName: "istiod.test", RootFile: roots, TokenFile: token, Metadata: map[string]string{"ClusterID": "Kubernetes"}})
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()
	h := &handler{got: make(chan *Response, 4)}
	c := run(t, Config{Conn: cc, Node: &corev3.Node{Id: "waypoint~x"}, Types: []Type{{typeA, true}, {typeB, false}}, Handler: h})

	st := recv(t, s.streams)
	if st.md.Get("authorization")[0] != "Bearer first" || st.md.Get("clusterid")[0] != "Kubernetes" {
		t.Errorf("metadata %v", st.md)
	}
	r := recv(t, st.reqs)
	if r.TypeUrl != typeA || r.Node.GetId() != "waypoint~x" || len(r.ResourceNamesSubscribe) != 0 {
		t.Errorf("the first request is %v", r)
	}
	st.s.Send(&discovery.DeltaDiscoveryResponse{TypeUrl: typeA, Nonce: "1", Resources: []*discovery.Resource{{Name: "a", Version: "1"}}})
	if got := recv(t, h.got); !got.Full || got.Upserts[0].Name != "a" {
		t.Errorf("first response %+v", got)
	}
	if ack := recv(t, st.reqs); ack.ResponseNonce != "1" || ack.ErrorDetail != nil || ack.Node != nil {
		t.Errorf("ack %v", ack)
	}

	// Named resources: what is new is subscribed, what is gone is given up.
	c.Subscribe(typeB, []string{"y", "x"})
	if r := recv(t, st.reqs); r.TypeUrl != typeB || !slices.Equal(r.ResourceNamesSubscribe, []string{"x", "y"}) || r.ResponseNonce != "" {
		t.Errorf("subscription %v", r)
	}
	c.Subscribe(typeB, []string{"y", "z"})
	if r := recv(t, st.reqs); !slices.Equal(r.ResourceNamesSubscribe, []string{"z"}) || !slices.Equal(r.ResourceNamesUnsubscribe, []string{"x"}) {
		t.Errorf("change %v", r)
	}

	// A refusal carries its reason and the nonce.
	h.mu.Lock()
	h.refuse = errors.New("a: broken")
	h.mu.Unlock()
	st.s.Send(&discovery.DeltaDiscoveryResponse{TypeUrl: typeA, Nonce: "2", RemovedResources: []string{"a"}})
	if got := recv(t, h.got); got.Full || got.Removed[0] != "a" {
		t.Errorf("second response %+v", got)
	}
	if nack := recv(t, st.reqs); nack.ResponseNonce != "2" || nack.ErrorDetail.GetMessage() != "a: broken" {
		t.Errorf("nack %v", nack)
	}
	h.mu.Lock()
	h.refuse = nil
	h.mu.Unlock()

	// The stream ends; the next one says everything again, with a fresh token.
	os.WriteFile(token, []byte("second"), 0o600)
	st.end <- nil
	st = recv(t, s.streams)
	if st.md.Get("authorization")[0] != "Bearer second" {
		t.Errorf("the token was not read again: %v", st.md)
	}
	if r := recv(t, st.reqs); r.TypeUrl != typeA || r.Node.GetId() == "" {
		t.Errorf("the first request of the second stream is %v", r)
	}
	if r := recv(t, st.reqs); r.TypeUrl != typeB || !slices.Equal(r.ResourceNamesSubscribe, []string{"y", "z"}) {
		t.Errorf("the second request of the second stream is %v", r)
	}
	st.s.Send(&discovery.DeltaDiscoveryResponse{TypeUrl: typeA, Nonce: "3"})
	if got := recv(t, h.got); !got.Full {
		t.Errorf("what came first on a new stream is not taken as everything: %+v", got)
	}
	recv(t, st.reqs)
	if n := c.Stats(); n.Streams != 2 || n.Acks != 2 || n.Nacks != 1 || !n.Connected {
		t.Errorf("stats %+v", n)
	}
}

// A client that tells what it holds gets no response as everything there is.
func TestHeldVersions(t *testing.T) {
	s, addr, roots := serve(t)
	cc, err := Dial(Transport{Address: addr, ServerName: "istiod.test", RootFile: roots})
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()
	h := &handler{got: make(chan *Response, 4)}
	run(t, Config{Conn: cc, Node: &corev3.Node{Id: "x"}, Types: []Type{{typeA, true}}, Handler: h, Held: func(url string) map[string]string {
		return map[string]string{"a": "7 of " + url}
	}})
	for range 2 {
		st := recv(t, s.streams)
		if r := recv(t, st.reqs); r.InitialResourceVersions["a"] != "7 of "+typeA {
			t.Errorf("the first request is %v", r)
		}
		st.s.Send(&discovery.DeltaDiscoveryResponse{TypeUrl: typeA, Nonce: "1"})
		if got := recv(t, h.got); got.Full {
			t.Errorf("taken as everything: %+v", got)
		}
		recv(t, st.reqs)
		st.end <- nil
	}
}

func TestServerMustProveItself(t *testing.T) {
	_, addr, roots := serve(t)
	_, _, other := serve(t)
	for name, tr := range map[string]Transport{
		"other root": {Address: addr, ServerName: "istiod.test", RootFile: other},
		"other name": {Address: addr, ServerName: "evil.test", RootFile: roots},
	} {
		cc, err := Dial(tr)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		s, err := discovery.NewAggregatedDiscoveryServiceClient(cc).DeltaAggregatedResources(ctx)
		if err == nil {
			_, err = s.Recv()
		}
		if err == nil || ctx.Err() != nil {
			t.Errorf("%s: %v", name, err)
		}
		cancel()
		cc.Close()
	}
	if _, err := Dial(Transport{Address: addr, RootFile: "/nonexistent"}); err == nil {
		t.Error("a missing root file is no error")
	}
}
