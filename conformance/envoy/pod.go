package envoy

import (
	"bufio"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"

	"waypoint.dev/waypoint/hbone"
	"waypoint.dev/waypoint/identity"
)

// Seen is a request as an application read it off its connection, byte for byte
// where HTTP/1.1 carried it.
type Seen struct {
	Pod     string
	Port    uint16
	Method  string
	Target  string
	Proto   string
	Headers [][2]string // in order, names as sent
	Body    string      // a long one as its length and hash
}

// seenHeader carries the Seen in the answer, so that no answer can be taken for another's.
const seenHeader = "x-seen"

// Pod is one backend: it takes tunnels on its address and port 15008, plain
// connections on its own ports, and answers every request with what it saw.
//
// Request headers steer the answer: x-want-status, x-want-header ("name: value",
// repeatable), x-want-body, and x-want-tries for one try after the other. Paths
// below /check ask the external authorizer that is in every pod, as does its gRPC
// method. A line that starts with "TCP " is no HTTP and is answered by a line.
type Pod struct {
	Name string

	addr  netip.Addr
	srv   *hbone.Server
	plain []net.Listener
	wg    sync.WaitGroup
	h2    http2.Server
	authz *grpc.Server // an external authorizer in the pod
	tries *tries

	mu    sync.Mutex
	conns map[io.Closer]struct{} // guarded by mu: plain ones
}

// NewPod listens on addr, under the identity of src.
func NewPod(name string, addr netip.Addr, src identity.Source, ports ...uint16) (*Pod, error) {
	p := &Pod{Name: name, addr: addr, conns: map[io.Closer]struct{}{}, authz: newAuthorizer(), tries: newTries()}
	ln, err := net.Listen("tcp", netip.AddrPortFrom(addr, 15008).String())
	if err != nil {
		return nil, fmt.Errorf("pod %s: %w", name, err)
	}
	p.srv = hbone.NewServer(hbone.ServerConfig{TLS: src, MaxAge: -1, DrainDelay: -1, Log: slog.New(slog.DiscardHandler)}, p)
	p.wg.Go(func() { p.srv.Serve(ln) })
	for _, port := range ports {
		ln, err := net.Listen("tcp", netip.AddrPortFrom(addr, port).String())
		if err != nil {
			p.Close()
			return nil, fmt.Errorf("pod %s: %w", name, err)
		}
		p.plain = append(p.plain, ln)
		p.wg.Go(func() { p.accept(ln, port) })
	}
	return p, nil
}

// Close cuts everything.
func (p *Pod) Close() {
	for _, l := range p.plain {
		l.Close()
	}
	p.mu.Lock()
	for c := range p.conns {
		c.Close()
	}
	p.mu.Unlock()
	p.srv.Close()
	p.authz.Stop()
	p.wg.Wait()
}

// ServeTunnel implements hbone.Handler.
func (p *Pod) ServeTunnel(t *hbone.Tunnel) {
	to, _, _ := t.Dest()
	if to.Addr() != p.addr {
		t.Refuse(400)
		return
	}
	if t.Accept() == nil {
		p.serve(tunnelConn{t}, to.Port())
	}
}

func (p *Pod) accept(ln net.Listener, port uint16) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		p.conns[c] = struct{}{}
		p.mu.Unlock()
		p.wg.Go(func() {
			p.serve(c, port)
			c.Close()
			p.mu.Lock()
			delete(p.conns, c)
			p.mu.Unlock()
		})
	}
}

// tcpHello starts what a client sends that speaks no HTTP.
const tcpHello = "TCP "

// tunnelConn is a tunnel as net/http2 wants its connections.
type tunnelConn struct{ *hbone.Tunnel }

func (t tunnelConn) LocalAddr() net.Addr  { return net.TCPAddrFromAddrPort(t.Tunnel.LocalAddr()) }
func (t tunnelConn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(t.Tunnel.PeerAddr()) }

// peeked is a connection whose first bytes were looked at.
type peeked struct {
	net.Conn
	r *bufio.Reader
}

func (c peeked) Read(b []byte) (int, error) { return c.r.Read(b) }

func (p *Pod) serve(c net.Conn, port uint16) {
	br := bufio.NewReaderSize(c, 4<<10)
	if b, _ := br.Peek(3); string(b) == "PRI" {
		p.h2.ServeConn(peeked{c, br}, &http2.ServeConnOpts{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { p.answer2(w, r, port) })})
		return
	}
	if b, _ := br.Peek(len(tcpHello)); string(b) == tcpHello {
		line, _ := br.ReadString('\n')
		fmt.Fprintf(c, "%s:%d got %s", p.Name, port, line)
		br.Peek(1) // the client ends it
		return
	}
	for {
		s, err := readHead(br)
		if err != nil {
			return
		}
		s.Pod, s.Port = p.Name, port
		body, err := s.readBody(br)
		if err != nil {
			return
		}
		if s.isCheck() {
			if !s.check(c, string(body)) {
				return
			}
			continue
		}
		s.Body = short(string(body))
		answer := s.answer(s.Method, s.values)
		switch how := p.tries.next(&s); how {
		case "":
		case "reset":
			return
		case "hang":
			br.Peek(1) // until the connection ends
			return
		default:
			answer = s.answer(s.Method, how.values(s.values))
		}
		if _, err := c.Write(answer); err == nil && len(s.values(triesHeader)) > 0 {
			br.Peek(1) // a reset now might overtake the answer; the other side ends what it was told to close
			return
		} else if err != nil || slices.Contains(s.values("connection"), "close") {
			return
		}
	}
}

var errLongHead = errors.New("a head of more than a megabyte")

// readHead reads lines up to the empty one.
func readHead(br *bufio.Reader) (s Seen, err error) {
	size := 0
	for first := true; ; first = false {
		line, err := br.ReadString('\n')
		if err != nil {
			return s, err
		}
		if size += len(line); size > 1<<20 {
			return s, errLongHead
		}
		line = strings.TrimRight(line, "\r\n")
		if first {
			s.Method, line, _ = strings.Cut(line, " ")
			s.Target, s.Proto, _ = strings.Cut(line, " ")
			continue
		}
		if line == "" {
			return s, nil
		}
		k, v, _ := strings.Cut(line, ":")
		s.Headers = append(s.Headers, [2]string{k, strings.Trim(v, " \t")})
	}
}

// readBody reads what content-length or chunked framing says.
func (s *Seen) readBody(br *bufio.Reader) ([]byte, error) {
	length := s.values("content-length")
	switch {
	case slices.Contains(s.values("transfer-encoding"), "chunked"):
		var out []byte
		for {
			line, err := br.ReadString('\n')
			if err != nil {
				return nil, err
			}
			size, _, _ := strings.Cut(strings.TrimSpace(line), ";")
			n, err := strconv.ParseUint(size, 16, 31)
			if err != nil {
				return nil, err
			}
			if n == 0 { // trailers
				for {
					if line, err = br.ReadString('\n'); err != nil || strings.TrimSpace(line) == "" {
						return out, err
					}
				}
			}
			chunk := make([]byte, n+2)
			if _, err := io.ReadFull(br, chunk); err != nil {
				return nil, err
			}
			out = append(out, chunk[:n]...)
		}
	case len(length) > 0:
		n, err := strconv.ParseUint(length[0], 10, 31)
		if err != nil {
			return nil, err
		}
		out := make([]byte, n)
		_, err = io.ReadFull(br, out)
		return out, err
	}
	return nil, nil
}

// values are those of a header, by lower case name.
func (s *Seen) values(name string) []string {
	var out []string
	for _, h := range s.Headers {
		if strings.EqualFold(h[0], name) {
			out = append(out, h[1])
		}
	}
	return out
}

// encode packs a Seen for its header.
func (s Seen) encode() string {
	s.Headers = slices.Clone(s.Headers)
	for i, h := range s.Headers {
		if h[0] != checkedHeader {
			s.Headers[i][1] = short(h[1])
		}
	}
	s.Target = short(s.Target)
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // strings only
	}
	return base64.StdEncoding.EncodeToString(b)
}

// short keeps what is short and stands for the rest by length and hash.
func short(s string) string {
	if len(s) <= 300 {
		return s
	}
	h := sha256.Sum256([]byte(s))
	return fmt.Sprintf("%s...(%d bytes, %s)", s[:40], len(s), hex.EncodeToString(h[:6]))
}

func (s *Seen) want(values func(string) []string) (status int, headers []string, body string) {
	status = 200
	if v := values("x-want-status"); len(v) > 0 {
		if n, err := strconv.Atoi(v[0]); err == nil && n >= 200 && n < 600 {
			status = n
		}
	}
	body = "served by " + s.Pod + "\n"
	if v := values("x-want-body"); len(v) > 0 {
		body = v[0]
	}
	for _, h := range values("x-want-header") {
		if strings.Contains(h, ":") {
			headers = append(headers, h)
		}
	}
	return status, headers, body
}

// answer is the HTTP/1.1 response.
func (s *Seen) answer(method string, values func(string) []string) []byte {
	status, headers, body := s.want(values)
	out := fmt.Appendf(nil, "HTTP/1.1 %d %s\r\n%s: %s\r\n", status, http.StatusText(status), seenHeader, s.encode())
	for _, h := range headers {
		out = append(out, h+"\r\n"...)
	}
	if status == 204 || status == 304 {
		return append(out, "\r\n"...)
	}
	if !strings.Contains(strings.ToLower(string(out)), "\ncontent-type:") {
		out = append(out, "content-type: text/plain\r\n"...)
	}
	out = fmt.Appendf(out, "content-length: %d\r\n\r\n", len(body))
	if method != "HEAD" {
		out = append(out, body...)
	}
	return out
}

// answer2 is the HTTP/2 response.
func (p *Pod) answer2(w http.ResponseWriter, r *http.Request, port uint16) {
	if strings.HasPrefix(r.URL.Path, checkMethod) {
		p.authz.ServeHTTP(w, r)
		return
	}
	s := Seen{Pod: p.Name, Port: port, Method: r.Method, Target: r.RequestURI, Proto: r.Proto, Headers: [][2]string{{"host", r.Host}}}
	for _, k := range slices.Sorted(func(yield func(string) bool) {
		for k := range r.Header {
			if !yield(k) {
				return
			}
		}
	}) {
		for _, v := range r.Header[k] {
			s.Headers = append(s.Headers, [2]string{strings.ToLower(k), v})
		}
	}
	ctrl := http.NewResponseController(w)
	ctrl.SetReadDeadline(time.Now().Add(10 * time.Second))
	body, _ := io.ReadAll(r.Body)
	s.Body = short(string(body))
	values := s.values
	switch how := p.tries.next(&s); how {
	case "":
	case "reset":
		panic(http.ErrAbortHandler)
	case "hang":
		<-r.Context().Done()
		return
	default:
		values = how.values(s.values)
	}
	status, headers, text := s.want(values)
	h := w.Header()
	h.Set(seenHeader, s.encode())
	for _, line := range headers {
		k, v, _ := strings.Cut(line, ":")
		if k == "connection" {
			continue // of HTTP/1.1
		}
		h.Add(k, strings.TrimSpace(v))
	}
	h["Date"] = nil
	if h.Get("Content-Type") == "" {
		h.Set("Content-Type", "text/plain")
	}
	w.WriteHeader(status)
	if status != 204 && status != 304 {
		io.WriteString(w, text)
	}
}
