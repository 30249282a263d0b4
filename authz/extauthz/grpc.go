package extauthz

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"waypoint.dev/waypoint/internal/attrs"
)

type grpcCaller struct {
	client *Client
	conn   *grpc.ClientConn
	auth   authv3.AuthorizationClient
	only   []Pattern
}

func newGRPC(c *Client) (*grpcCaller, error) {
	authority := c.conf.GRPC.Authority
	if authority == "" {
		authority = c.conf.Name
	}
	conn, err := grpc.NewClient("passthrough:///ext-authz",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return c.connect(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()), // the dial function does TLS
		grpc.WithAuthority(authority),
		grpc.WithDisableServiceConfig(),
		grpc.WithNoProxy(),
		// A server that comes back should be found soon: gRPC's own backoff grows to
		// two minutes, in which every request would fail.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second},
			MinConnectTimeout: 5 * time.Second,
		}),
	)
	if err != nil {
		return nil, err
	}
	return &grpcCaller{client: c, conn: conn, auth: authv3.NewAuthorizationClient(conn), only: lowerPatterns(c.conf.GRPC.IncludeHeaders)}, nil
}

func (g *grpcCaller) close() { g.conn.Close() }

func (g *grpcCaller) check(ctx context.Context, in *Input) (Outcome, error) {
	resp, err := g.auth.Check(ctx, g.request(in))
	if err != nil {
		if status.Code(err) == codes.Unavailable && g.client.refused.Load() {
			err = &unreachable{err}
		}
		return Outcome{}, err
	}
	return outcomeOf(resp)
}

// request writes the CheckRequest. Its strings borrow from in; they are encoded
// before the call returns.
func (g *grpcCaller) request(in *Input) *authv3.CheckRequest {
	conf := g.client.conf.GRPC
	conn := in.Conn
	if in.Request != nil && in.Request.Conn != nil {
		conn = in.Request.Conn
	}
	if conn == nil {
		conn = &attrs.Conn{}
	}
	a := &authv3.AttributeContext{
		Source:            peer(conn.Source, conn.Peer.URI),
		Destination:       peer(conn.Dest, conn.Local.URI),
		Request:           &authv3.AttributeContext_Request{Time: timestamppb.New(in.Time)},
		ContextExtensions: maps.Clone(conf.ContextExtensions),
	}
	if conf.IncludeSNI && conn.SNI != "" {
		a.TlsSession = &authv3.AttributeContext_TLSSession{Sni: text(conn.SNI)}
	}
	if in.Request != nil {
		a.Request.Http = g.httpRequest(in)
	}
	return &authv3.CheckRequest{Attributes: a}
}

func peer(addr netip.AddrPort, principal string) *authv3.AttributeContext_Peer {
	p := &authv3.AttributeContext_Peer{Principal: text(principal)}
	if addr.IsValid() {
		p.Address = &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
			Address:       addr.Addr().Unmap().String(),
			PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(addr.Port())},
		}}}
	}
	return p
}

const partialBody = "x-envoy-auth-partial-body"

func (g *grpcCaller) httpRequest(in *Input) *authv3.AttributeContext_HttpRequest {
	r := in.Request
	path := target(r)
	h := &authv3.AttributeContext_HttpRequest{
		Id: text(in.RequestID), Method: text(r.Method), Path: text(path), Host: text(r.Authority), Scheme: text(r.Scheme),
		Size: in.Size, Protocol: in.Protocol, Headers: make(map[string]string, len(r.Headers)+4),
	}
	add := func(name, value string) {
		if name == partialBody || value == "" && name[0] == ':' || len(g.only) > 0 && !matchAny(g.only, name) {
			return
		}
		value = text(value)
		if old, has := h.Headers[name]; has {
			value = old + "," + value
		}
		h.Headers[name] = value
	}
	add(":authority", r.Authority)
	add(":method", r.Method)
	add(":path", path)
	add(":scheme", r.Scheme)
	for i := range r.Headers {
		add(r.Headers[i].Name, r.Headers[i].Value)
	}
	if in.Size > 0 { // framing, which is not among the fields
		add("content-length", strconv.FormatInt(in.Size, 10))
	}
	if b := g.client.conf.Body; b != nil {
		body, cut := limit(in, b)
		if b.AsBytes {
			h.RawBody = body
		} else {
			h.Body = text(string(body))
		}
		if len(in.Body) > 0 {
			h.Headers[partialBody] = fmt.Sprint(cut)
		}
	}
	return h
}

func limit(in *Input, b *Body) (body []byte, cut bool) {
	if len(in.Body) > b.MaxBytes {
		return in.Body[:b.MaxBytes], true
	}
	return in.Body, in.Partial
}

func target(r *attrs.Request) string {
	if r.HasQuery {
		return r.Path + "?" + r.Query
	}
	return r.Path
}

// text makes a protobuf string: bytes that are not UTF-8 become '!', as in Envoy.
// Left in, they would make the call fail, and a client could choose that.
func text(s string) string { return strings.ToValidUTF8(s, "!") }

// outcomeOf reads an answer.
func outcomeOf(resp *authv3.CheckResponse) (Outcome, error) {
	if resp.GetErrorResponse() != nil {
		return Outcome{}, fmt.Errorf("authorizer reports an error: code %d", resp.GetStatus().GetCode())
	}
	if codes.Code(resp.GetStatus().GetCode()) != codes.OK {
		d := resp.GetDeniedResponse()
		headers, _ := edits(d.GetHeaders()) // none behind an error: a denial stays one
		addLines(headers)
		return denied(int(d.GetStatus().GetCode()), headers, d.GetBody()), nil
	}
	// Without a status the message says OK by its zero value. An empty message from
	// a broken server is no consent.
	if resp.GetStatus() == nil && resp.GetOkResponse() == nil || resp.GetDeniedResponse() != nil {
		return Outcome{}, fmt.Errorf("answer says neither yes nor no")
	}
	ok := resp.GetOkResponse()
	o := Outcome{Verdict: Allowed}
	var err error
	if o.Request, err = edits(ok.GetHeaders()); err != nil {
		return Outcome{}, err
	}
	if o.Response, err = edits(ok.GetResponseHeadersToAdd()); err != nil {
		return Outcome{}, err
	}
	addLines(o.Response)
	for _, name := range ok.GetHeadersToRemove() {
		e, use, err := edit(Remove, name, "")
		if err != nil {
			return Outcome{}, err
		}
		if use {
			o.Request = append(o.Request, e)
		}
	}
	for _, p := range ok.GetQueryParametersToSet() {
		o.QuerySet = append(o.QuerySet, Param{p.GetKey(), p.GetValue()})
	}
	o.QueryRemove = ok.GetQueryParametersToRemove()
	return o, nil
}

// addLines: a response takes a further line where a request joins values.
func addLines(es []Edit) {
	for i := range es {
		if es[i].Op == Append {
			es[i].Op = Add
		}
	}
}

// edits reads header options. In these messages "append" defaults to false and
// decides; append_action counts where append is not set. With an error there are none.
func edits(hs []*corev3.HeaderValueOption) ([]Edit, error) {
	var out []Edit
	for _, h := range hs {
		op := Set
		switch {
		case h.GetAppend() != nil: //nolint:staticcheck // what authorizers send
			if h.GetAppend().GetValue() { //nolint:staticcheck
				op = Append
			}
		case h.GetAppendAction() == corev3.HeaderValueOption_ADD_IF_ABSENT:
			op = AddIfAbsent
		case h.GetAppendAction() == corev3.HeaderValueOption_OVERWRITE_IF_EXISTS:
			op = SetIfExists
		}
		value := h.GetHeader().GetValue()
		if raw := h.GetHeader().GetRawValue(); value == "" && len(raw) > 0 {
			value = string(raw)
		}
		if value == "" && !h.GetKeepEmptyValue() && op != Set {
			continue
		}
		e, use, err := edit(op, h.GetHeader().GetKey(), value)
		if err != nil {
			return nil, err
		}
		if use {
			out = append(out, e)
		}
	}
	return out, nil
}
