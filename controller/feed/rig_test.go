package feed

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/config/kube"
	"waypoint.dev/waypoint/xds"
	"waypoint.dev/waypoint/xds/objects"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a store with its server on loopback.
type rig struct {
	store  *Store
	server *Server
	addr   string
	roots  string
	cert   tls.Certificate
	grpc   *grpc.Server
	done   chan struct{}
}

// tokens are "namespace/account" themselves here.
func verify(_ context.Context, token string) (string, string, error) {
	for i := range token {
		if token[i] == '/' {
			return token[:i], token[i+1:], nil
		}
	}
	return "", "", errors.New("unknown")
}

func newRig(t testing.TB, o Options) *rig {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"controller.test"}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{store: NewStore(Mesh{}), roots: filepath.Join(t.TempDir(), "root.pem"), cert: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}}
	if err := os.WriteFile(r.roots, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	if o.Verify == nil {
		o.Verify = verify
	}
	r.server = New(r.store, o)
	r.serve(t, "127.0.0.1:0")
	t.Cleanup(func() { r.stop() })
	return r
}

func (r *rig) serve(t testing.TB, addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	g, done := grpc.NewServer(append(ServerOptions(), grpc.Creds(credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{r.cert}, ClientAuth: tls.RequestClientCert,
	})))...), make(chan struct{})
	r.server.Register(g)
	go func() { defer close(done); g.Serve(ln) }()
	r.addr, r.grpc, r.done = ln.Addr().String(), g, done
}

func (r *rig) stop() { r.grpc.Stop(); <-r.done }

// waypoint is a client of a rig, up to the compiled snapshot.
type waypoint struct {
	feed   *objects.Feed
	client *xds.Client

	mu    sync.Mutex
	cond  *sync.Cond
	model *config.Model
	snap  *config.Snapshot
	built int
	took  []time.Duration
}

func (r *rig) waypoint(t testing.TB, gateway, token string) *waypoint {
	t.Helper()
	ns, name, _ := verify(context.Background(), gateway)
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
	cc, err := xds.Dial(xds.Transport{Address: r.addr, ServerName: "controller.test", RootFile: r.roots, TokenFile: file})
	if err != nil {
		t.Fatal(err)
	}
	node, err := objects.NewNode(config.Owner{Namespace: ns, Name: name}, "test")
	if err != nil {
		t.Fatal(err)
	}
	w := &waypoint{}
	w.cond = sync.NewCond(&w.mu)
	b := kube.NewBuilder(kube.Options{Waypoint: config.Owner{Namespace: ns, Name: name}})
	w.feed = objects.New(objects.Options{Build: func(o *kube.Objects) {
		start := time.Now()
		m := b.Build(o)
		s, _ := config.Compile(m, w.snap, config.Env{})
		w.mu.Lock()
		defer w.mu.Unlock()
		w.model, w.snap, w.built = m, s, w.built+1
		w.took = append(w.took, time.Since(start))
		w.cond.Broadcast()
	}})
	w.client = xds.New(xds.Config{Conn: cc, Node: node, Types: objects.Types, Handler: w.feed, Held: w.feed.Versions})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { w.client.Run(ctx) })
	wg.Go(func() { w.feed.Run(ctx) })
	t.Cleanup(func() { cancel(); cc.Close(); wg.Wait() })
	return w
}

// first is how long the first build took.
func (w *waypoint) first() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.took[0].Round(time.Millisecond)
}

// builds counts them.
func (w *waypoint) builds() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.built
}

// until waits for a model of which ok says yes.
func (w *waypoint) until(t testing.TB, what string, ok func(*config.Model) bool) *config.Model {
	t.Helper()
	late := time.AfterFunc(4*time.Minute, func() { w.mu.Lock(); w.model = nil; w.built = -1 << 30; w.mu.Unlock(); w.cond.Broadcast() })
	defer late.Stop()
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.built >= 0 && (w.model == nil || !ok(w.model)) {
		w.cond.Wait()
	}
	if w.built < 0 {
		t.Fatalf("never: %s", what)
	}
	return w.model
}

// objectOf makes an Object from its JSON.
func objectOf(t testing.TB, version, json string, args ...any) Object {
	t.Helper()
	raw := fmt.Appendf(nil, json, args...)
	k, err := kube.Decode(raw, "")
	if err != nil {
		t.Fatal(err)
	}
	return Object{Key: k.Key, Version: version, JSON: raw}
}
