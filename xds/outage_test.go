package xds

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"
)

// away is a control plane that is away until it is back; then each stream is told
// one thing and lives until its end.
type away struct {
	back  atomic.Bool
	tries atomic.Int64
}

func (a *away) Invoke(context.Context, string, any, any, ...grpc.CallOption) error {
	return errors.ErrUnsupported
}

func (a *away) NewStream(ctx context.Context, _ *grpc.StreamDesc, _ string, _ ...grpc.CallOption) (grpc.ClientStream, error) {
	a.tries.Add(1)
	if !a.back.Load() {
		return nil, errors.New("connection refused")
	}
	return &oneStream{ctx: ctx}, nil
}

type oneStream struct {
	grpc.ClientStream
	ctx  context.Context
	told bool
}

func (s *oneStream) Context() context.Context { return s.ctx }
func (s *oneStream) SendMsg(any) error        { return nil }
func (s *oneStream) CloseSend() error         { return nil }
func (s *oneStream) RecvMsg(m any) error {
	if s.told {
		<-s.ctx.Done()
		return s.ctx.Err()
	}
	s.told = true
	proto.Merge(m.(proto.Message), &discovery.DeltaDiscoveryResponse{TypeUrl: "a", Nonce: "1"})
	return nil
}

type counter struct{ n atomic.Int64 }

func (c *counter) Apply(*Response) error { c.n.Add(1); return nil }

// TestOutage takes the control plane away for six hours: it is asked for at a pace
// that neither floods nor forgets it, and followed again within the longest pause.
func TestOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var conn away
		var got counter
		c := New(Config{Conn: &conn, Node: &corev3.Node{}, Types: []Type{{URL: "a", Wildcard: true}}, Handler: &got})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- c.Run(ctx) }()
		const outage = 6 * time.Hour
		time.Sleep(outage)
		synctest.Wait()
		// Full jitter: pauses of up to 30 s are 15 s on the average.
		if n, mean := conn.tries.Load(), int64(outage/(15*time.Second)); n < mean/2 || n > 2*mean {
			t.Errorf("%d attempts in %v", n, outage)
		}
		if c.Stats().Connected || got.n.Load() != 0 {
			t.Error("connected to nothing")
		}
		conn.back.Store(true)
		time.Sleep(backoffMax)
		synctest.Wait()
		if !c.Stats().Connected || got.n.Load() != 1 {
			t.Errorf("not followed again: %+v, %d responses", c.Stats(), got.n.Load())
		}
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

// TestOutageOfTheConnection is the same with the connection that Dial makes: its own
// pauses must not add up to minutes.
func TestOutageOfTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		opts, err := Transport{Address: "istiod:15010", Plaintext: true}.options()
		if err != nil {
			t.Fatal(err)
		}
		ln := bufconn.Listen(1 << 16)
		var back atomic.Bool
		var asked atomic.Value
		cc, err := grpc.NewClient(dialTarget+"istiod:15010", append(opts, grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
			asked.Store(addr)
			if !back.Load() {
				return nil, errors.New("no such host")
			}
			return ln.DialContext(ctx)
		}))...)
		if err != nil {
			t.Fatal(err)
		}
		srv, ads := grpc.NewServer(), &server{streams: make(chan *conn, 16)}
		discovery.RegisterAggregatedDiscoveryServiceServer(srv, ads)
		go srv.Serve(ln)
		c := New(Config{Conn: cc, Node: &corev3.Node{}, Types: []Type{{URL: "a", Wildcard: true}}, Handler: new(counter)})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- c.Run(ctx) }()
		time.Sleep(30 * time.Minute) // long past the longest pause that grpc would make
		back.Store(true)
		time.Sleep(backoffMax + 2*redialMax) // grpc's jitter is a fifth
		synctest.Wait()
		if n := len(ads.streams); n != 1 {
			t.Errorf("%d streams after the server was back for %v", n, backoffMax+2*redialMax)
		}
		if a := asked.Load(); a != "istiod:15010" {
			t.Errorf("dialled %v: the name is to be resolved at each attempt", a)
		}
		cancel()
		<-ended
		cc.Close()
		srv.Stop()
		ln.Close()
	})
}
