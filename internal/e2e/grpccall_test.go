package e2e

import (
	"context"
	"fmt"
	"net"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"

	"waypoint.dev/waypoint/internal/attrs"
	"waypoint.dev/waypoint/proxy"
)

// calls holds Explain to every call of a connection, once they are over.
type calls struct {
	m       *mesh
	ns      string
	vip     int
	mu      sync.Mutex
	pending map[string]*proxy.Explanation // guarded by mu: by request id
}

// rpcClient is a client of a service port, each call of which is compared with
// what Explain says of it when the test ends.
func (m *mesh) rpcClient(ns string, vip int) *grpc.ClientConn {
	m.t.Helper()
	c := &calls{m: m, ns: ns, vip: vip, pending: map[string]*proxy.Explanation{}}
	cc, err := grpc.NewClient("passthrough:///"+m.front(ns, vip), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority("rpc.shop"),
		grpc.WithUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, next grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			return next(c.note(ctx, method), method, req, reply, cc, opts...)
		}),
		grpc.WithStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, next grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
			return next(c.note(ctx, method), desc, cc, method, opts...)
		}))
	if err != nil {
		m.t.Fatal(err)
	}
	m.root.Cleanup(func() {
		cc.Close()
		c.check()
	})
	return cc
}

// note gives a call its id and asks what will become of it.
func (c *calls) note(ctx context.Context, method string) context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	id := fmt.Sprintf("%s-%d-%d", c.m.t.Name(), c.vip, len(c.pending))
	q := proxy.Question{Method: "POST", URL: fmt.Sprintf("http://10.96.7.%d%s", c.vip, method), HTTP2: true,
		Headers: []attrs.Field{{Name: "host", Value: "rpc.shop"}, {Name: "content-type", Value: "application/grpc"}, {Name: "te", Value: "trailers"}}}
	md, _ := metadata.FromOutgoingContext(ctx)
	for name, values := range md {
		for _, v := range values {
			q.Headers = append(q.Headers, attrs.Field{Name: name, Value: v})
		}
	}
	c.pending[id] = c.m.explain(c.ns, q)
	return metadata.AppendToOutgoingContext(ctx, "x-request-id", id)
}

func (c *calls) check() {
	c.m.t = c.m.root
	for id, e := range c.pending {
		r := c.m.record(id)
		c.m.compare(e, &r)
	}
	if len(c.pending) == 0 {
		c.m.t.Error("no call was made")
	}
}

// serveRPC runs a gRPC server that names itself in x-app.
func serveRPC(t *testing.T, addr, name string) {
	t.Helper()
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	named := func(ctx context.Context) { _ = grpc.SetHeader(ctx, metadata.Pairs("x-app", name)) }
	srv := grpc.NewServer(
		grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			named(ctx)
			return next(ctx, req)
		}),
		grpc.StreamInterceptor(func(s any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			named(ss.Context())
			return next(s, ss)
		}))
	pb.RegisterTestServiceServer(srv, rpcServer{})
	go srv.Serve(ln)
	t.Cleanup(srv.Stop)
}
