package e2e

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// rpcServer answers all four kinds of calls with what they asked for.
type rpcServer struct {
	pb.UnimplementedTestServiceServer
}

func (rpcServer) UnaryCall(ctx context.Context, r *pb.SimpleRequest) (*pb.SimpleResponse, error) {
	if s := r.GetResponseStatus(); s != nil {
		return nil, status.Error(codes.Code(s.Code), s.Message)
	}
	md, _ := metadata.FromIncomingContext(ctx)
	_ = grpc.SetTrailer(ctx, metadata.Pairs("x-trailer", "end"))
	if r.GetFillUsername() { // asked to hang
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return &pb.SimpleResponse{Username: strings.Join(md.Get("x-via"), ","), Payload: r.GetPayload()}, nil
}

func (rpcServer) StreamingOutputCall(r *pb.StreamingOutputCallRequest, s grpc.ServerStreamingServer[pb.StreamingOutputCallResponse]) error {
	for _, p := range r.GetResponseParameters() {
		if err := s.Send(&pb.StreamingOutputCallResponse{Payload: &pb.Payload{Body: make([]byte, p.Size)}}); err != nil {
			return err
		}
	}
	return nil
}

func (rpcServer) StreamingInputCall(s grpc.ClientStreamingServer[pb.StreamingInputCallRequest, pb.StreamingInputCallResponse]) error {
	n := int32(0)
	for {
		r, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return s.SendAndClose(&pb.StreamingInputCallResponse{AggregatedPayloadSize: n})
		}
		if err != nil {
			return err
		}
		n += int32(len(r.GetPayload().GetBody()))
	}
}

func (rpcServer) FullDuplexCall(s grpc.BidiStreamingServer[pb.StreamingOutputCallRequest, pb.StreamingOutputCallResponse]) error {
	for {
		r, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := s.Send(&pb.StreamingOutputCallResponse{Payload: r.GetPayload()}); err != nil {
			return err
		}
	}
}

func TestGRPCRoute(t *testing.T) {
	m := newMesh(t)
	serveRPC(t, podV1+":9090", "v1")
	cc := m.rpcClient("clients", 7)
	c := pb.NewTestServiceClient(cc)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()

	var trailer metadata.MD
	res, err := c.UnaryCall(ctx, &pb.SimpleRequest{Payload: &pb.Payload{Body: []byte("hello")}}, grpc.Trailer(&trailer))
	if err != nil || res.GetUsername() != "waypoint" || string(res.GetPayload().GetBody()) != "hello" || len(trailer.Get("x-trailer")) != 1 {
		t.Errorf("unary: %v %v, trailers %v", res, err, trailer)
	}
	_, err = c.UnaryCall(ctx, &pb.SimpleRequest{ResponseStatus: &pb.EchoStatus{Code: 9, Message: "no, ü"}})
	if s := status.Convert(err); s.Code() != codes.FailedPrecondition || s.Message() != "no, ü" {
		t.Errorf("the server's status: %v", err)
	}
	// The waypoint's own answers are gRPC ones: a missing backend and no rule.
	if _, err = c.CacheableUnaryCall(ctx, &pb.SimpleRequest{}); status.Code(err) != codes.Unknown {
		t.Errorf("a missing backend, 500: %v", err)
	}
	if err = cc.Invoke(ctx, "/other.Service/Call", &pb.Empty{}, &pb.Empty{}); status.Code(err) != codes.Unimplemented {
		t.Errorf("no rule, 404: %v", err)
	}

	out, err := c.StreamingOutputCall(ctx, &pb.StreamingOutputCallRequest{ResponseParameters: []*pb.ResponseParameters{{Size: 1}, {Size: 100000}, {Size: 3}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []int{1, 100000, 3} {
		if r, err := out.Recv(); err != nil || len(r.GetPayload().GetBody()) != want {
			t.Fatalf("server stream: %v", err)
		}
	}
	if _, err := out.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("end of the server stream: %v", err)
	}

	in, err := c.StreamingInputCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if err := in.Send(&pb.StreamingInputCallRequest{Payload: &pb.Payload{Body: make([]byte, 20000)}}); err != nil {
			t.Fatal(err)
		}
	}
	if r, err := in.CloseAndRecv(); err != nil || r.GetAggregatedPayloadSize() != 100000 {
		t.Errorf("client stream: %v %v", r, err)
	}

	both, err := c.FullDuplexCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"a", "bb", "ccc"} { // each is answered before the next is sent
		if err := both.Send(&pb.StreamingOutputCallRequest{Payload: &pb.Payload{Body: []byte(text)}}); err != nil {
			t.Fatal(err)
		}
		if r, err := both.Recv(); err != nil || string(r.GetPayload().GetBody()) != text {
			t.Fatalf("both ways: %v %v", r, err)
		}
	}
	if err := both.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := both.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("end of both: %v", err)
	}

	short, stop := context.WithTimeout(ctx, 50*time.Millisecond)
	defer stop()
	// Client, waypoint and server each hold the deadline, from grpc-timeout. Unless the
	// client is first, the server's reset or a 504 comes, which both are Unavailable.
	_, err = c.UnaryCall(short, &pb.SimpleRequest{FillUsername: true})
	if code := status.Code(err); code != codes.DeadlineExceeded && code != codes.Unavailable {
		t.Errorf("deadline: %v", err)
	}

	// GEP-1294: the HTTPRoute that lost the port says so.
	lost := false
	for _, s := range m.builder.RouteStatuses() {
		if s.Name == "loser" {
			for _, p := range s.Parents {
				for _, c := range p.Conditions {
					lost = lost || c.Type == "Accepted" && !c.Status
				}
			}
		}
	}
	if !lost {
		t.Error("the losing route is not reported")
	}
}

// A server that speaks first is reached through a TCPRoute.
func TestTCPRouteServerFirst(t *testing.T) {
	m := newMesh(t)
	greet(t, podV1+":7070", "hello", nil)
	r := m.talk("clients", "10.96.7.8:80", "", func(c net.Conn) {
		b := make([]byte, 6)
		if _, err := io.ReadFull(c, b); err != nil || string(b) != "hello\n" {
			t.Errorf("%q %v", b, err)
		}
		io.WriteString(c, "again")
		c.(*net.TCPConn).CloseWrite()
		if b, err := io.ReadAll(c); err != nil || string(b) != "again" {
			t.Errorf("%q %v", b, err)
		}
	})
	if r.Route != "shop/raw" || r.Sent != 11 || r.Received != 5 {
		t.Errorf("logged %+v", r)
	}
}
