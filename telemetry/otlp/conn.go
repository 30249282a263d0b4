package otlp

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"

	tracecol "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"
)

// Dial connects to a collector. The connection is in plaintext: what protects it on
// its way is the dialer's.
type Dial func(ctx context.Context) (net.Conn, error)

// grpcConn makes a client connection that dials when it is first used.
func grpcConn(dial Dial, authority string) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///collector",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return dial(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority(authority), grpc.WithNoProxy())
}

// overHTTP is an otlptrace.Client that sends spans in the body of a POST (OTLP 1.5,
// section OTLP/HTTP, binary encoding).
type overHTTP struct {
	url     string
	headers http.Header
	client  *http.Client
}

func newHTTP(o Options) *overHTTP {
	h := http.Header{"Content-Type": {"application/x-protobuf"}}
	for k, v := range o.Headers {
		h.Set(k, v)
	}
	t := &http.Transport{
		DialContext:     func(ctx context.Context, _, _ string) (net.Conn, error) { return o.Dial(ctx) },
		MaxConnsPerHost: 1,
	}
	return &overHTTP{url: "http://" + o.Authority + o.Path, headers: h, client: &http.Client{Transport: t, Timeout: exportTimeout}}
}

// Start implements otlptrace.Client.
func (*overHTTP) Start(context.Context) error { return nil }

// Stop implements otlptrace.Client.
func (c *overHTTP) Stop(context.Context) error {
	c.client.CloseIdleConnections()
	return nil
}

// maxAnswer bounds how much of a collector's answer is read, so that its connection
// can be used again.
const maxAnswer = 64 << 10

// UploadTraces implements otlptrace.Client.
func (c *overHTTP) UploadTraces(ctx context.Context, spans []*trace.ResourceSpans) error {
	b, err := proto.Marshal(&tracecol.ExportTraceServiceRequest{ResourceSpans: spans})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(b))
	if err != nil {
		return err
	}
	req.Header = c.headers
	res, err := c.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	_, _ = io.CopyN(io.Discard, res.Body, maxAnswer)
	if res.StatusCode >= 300 {
		return fmt.Errorf("the collector answered %s", res.Status)
	}
	return nil
}
