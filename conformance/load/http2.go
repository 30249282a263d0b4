package load

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"

	"golang.org/x/net/http2"

	"waypoint.dev/waypoint/hbone"
	"waypoint.dev/waypoint/hbone/h2"
)

// Protocol is what is spoken inside the tunnels.
type Protocol uint8

const (
	HTTP1 Protocol = iota
	HTTP2          // one stream at a time on the HTTP/2 connection of a tunnel
	GRPC           // the same, as a unary call: trailers must say grpc-status 0
)

// asker sends the workload's request once and reads its answer.
type asker interface {
	do(request []byte) (status int, body int64, err error)
}

// exchanger2 asks over HTTP/2. Unlike the HTTP/1.1 loop it allocates: it is
// net/http's client, which is not under measurement.
type exchanger2 struct {
	cc   *http2.ClientConn
	req  *http.Request // Workload.Request, parsed
	body []byte
	grpc bool
}

func newExchanger2(s *h2.Stream, request []byte, grpc bool) (*exchanger2, error) {
	req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(request)))
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	req.RequestURI = ""
	req.URL.Scheme, req.URL.Host = "http", req.Host
	if grpc {
		req.Method = "POST"
		req.Header.Set("Content-Type", "application/grpc")
		req.Header.Set("Te", "trailers")
		body = make([]byte, 5) // an empty message
	}
	tr := &http2.Transport{AllowHTTP: true, DisableCompression: true}
	cc, err := tr.NewClientConn(NetConn(s))
	if err != nil {
		return nil, err
	}
	return &exchanger2{cc: cc, req: req, body: body, grpc: grpc}, nil
}

var errGRPC = errors.New("load: the call did not end with grpc-status 0")

func (e *exchanger2) do([]byte) (status int, body int64, err error) {
	req := *e.req
	req.Body, req.ContentLength = http.NoBody, 0
	if len(e.body) > 0 {
		req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(e.body)), int64(len(e.body))
	}
	res, err := e.cc.RoundTrip(&req)
	if err != nil {
		return 0, 0, err
	}
	defer res.Body.Close()
	body, err = io.Copy(io.Discard, res.Body)
	if err == nil && e.grpc && res.Trailer.Get("Grpc-Status") != "0" {
		err = errGRPC
	}
	return res.StatusCode, body, err
}

func (e *exchanger2) close() { e.cc.Close() }

// NetConn makes a tunnel the net.Conn that an HTTP library wants.
func NetConn(s *h2.Stream) net.Conn { return streamConn{s} }

type streamConn struct{ *h2.Stream }

func (streamConn) LocalAddr() net.Addr  { return &net.TCPAddr{} }
func (streamConn) RemoteAddr() net.Addr { return &net.TCPAddr{} }

// tunnelConn is a backend's tunnel likewise, behind bytes already read.
type tunnelConn struct {
	*hbone.Tunnel
	r io.Reader
}

func (t tunnelConn) Read(p []byte) (int, error) { return t.r.Read(p) }
func (t tunnelConn) LocalAddr() net.Addr        { return net.TCPAddrFromAddrPort(t.Tunnel.LocalAddr()) }
func (t tunnelConn) RemoteAddr() net.Addr       { return net.TCPAddrFromAddrPort(t.PeerAddr()) }

// preface is how an HTTP/2 connection starts (RFC 9113 section 3.4).
var preface = []byte(http2.ClientPreface)

// serve2 answers over HTTP/2: GET /N as over HTTP/1.1, and gRPC calls with an
// empty message.
func (b *Backend) serve2(t *hbone.Tunnel, read []byte) {
	new(http2.Server).ServeConn(tunnelConn{t, io.MultiReader(bytes.NewReader(read), t)}, &http2.ServeConnOpts{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			if r.Header.Get("Content-Type") == "application/grpc" {
				w.Header().Set("Content-Type", "application/grpc")
				w.Header().Set("Trailer", "grpc-status")
				w.Write(make([]byte, 5))
				w.Header().Set("Grpc-Status", "0")
				return
			}
			n := sizeOf(fmt.Appendf(nil, "GET %s ", r.URL.Path))
			w.Header().Set("Content-Length", fmt.Sprint(n))
			for n > 0 {
				m, err := w.Write(zeros[:min(n, len(zeros))])
				if err != nil {
					return
				}
				n -= m
			}
		}),
	})
}
