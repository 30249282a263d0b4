package envoy

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/http2"

	"waypoint.dev/waypoint/conformance/load"
	"waypoint.dev/waypoint/identity"
)

// patience is how long an answer may take. Answers take milliseconds; what is
// measured by it is only the silence behind a request that ends nowhere.
const patience = 5 * time.Second

// arrival is how long what has to come may take on a busy machine: a connection, or a
// request that the application is to have. No case waits for its end.
const arrival = 30 * time.Second

// Asker asks one side. It keeps one HBONE connection to a client and one tunnel
// to an authority, as node proxies do. It belongs to one goroutine.
type Asker struct {
	side    string
	addr    netip.AddrPort
	direct  netip.AddrPort // where questions of kind Direct go; invalid: through tunnels
	sources func(Client) identity.Source
	tries   *tries // of the lab

	conns   map[Client]*load.Conn
	tunnels map[tunnelKey]*tunnel
}

type tunnelKey struct {
	client    Client
	authority string
	kind      string // of tunnel: "h2", "direct" or none
}

// tunnel is a byte stream to what a tunnel addresses.
type tunnel struct {
	c  net.Conn
	br *bufio.Reader
	h2 *http2.ClientConn
}

// NewAsker asks the side that listens on addr.
func NewAsker(side string, addr netip.AddrPort, sources func(Client) identity.Source) *Asker {
	return &Asker{side: side, addr: addr, sources: sources, conns: map[Client]*load.Conn{}, tunnels: map[tunnelKey]*tunnel{}}
}

// Fork is another asker of the same side, for another goroutine.
func (a *Asker) Fork() *Asker {
	f := NewAsker(a.side, a.addr, a.sources)
	f.direct, f.tries = a.direct, a.tries
	return f
}

// Close ends all tunnels and connections.
func (a *Asker) Close() {
	a.Forget()
	for k, c := range a.conns {
		c.Close()
		delete(a.conns, k)
	}
}

// Forget ends all tunnels.
func (a *Asker) Forget() {
	for k := range a.tunnels {
		a.drop(k)
	}
}

func (a *Asker) drop(k tunnelKey) {
	if t := a.tunnels[k]; t != nil {
		if t.h2 != nil {
			t.h2.Close()
		}
		t.c.Close()
		delete(a.tunnels, k)
	}
}

func (a *Asker) tunnel(k tunnelKey) (*tunnel, error) {
	if t := a.tunnels[k]; t != nil {
		return t, nil
	}
	if k.kind == "direct" {
		c, err := a.dialDirect(k)
		if err != nil {
			return nil, err
		}
		t := &tunnel{c: c, br: bufio.NewReaderSize(c, 4<<10)}
		a.tunnels[k] = t
		return t, nil
	}
	c := a.conns[k.client]
	if c == nil {
		ctx, cancel := context.WithTimeout(context.Background(), arrival)
		defer cancel()
		from, err := netip.ParseAddr(k.client.Addr)
		if err != nil {
			return nil, err
		}
		if c, err = load.DialFrom(ctx, from, a.addr, a.sources(k.client)); err != nil {
			return nil, err
		}
		a.conns[k.client] = c
	}
	s, err := c.Tunnel(k.authority)
	if err != nil {
		return nil, err
	}
	t := &tunnel{c: load.NetConn(s), br: bufio.NewReaderSize(s, 4<<10)}
	a.tunnels[k] = t
	return t, nil
}

// Ask sends a question and waits for its answer. An error is one of the harness;
// what the side did wrong is in the answer.
func (a *Asker) Ask(q *Question) (Answer, error) {
	if q.Beside != "" {
		release, err := a.hold(q)
		defer release()
		if err != nil {
			return Answer{}, err
		}
		own := *q
		own.Beside = ""
		return a.Ask(&own)
	}
	if q.Twice {
		own := *q
		own.Twice = false
		return a.twice(&own)
	}
	if q.Tries == "" {
		return a.ask(q)
	}
	own := *q
	own.Headers = append(slices.Clone(q.Headers), [2]string{triesHeader, q.Tries}, [2]string{sideHeader, a.side})
	ans, err := a.ask(&own)
	ans.Tries = a.tries.count(a.side, q.ID)
	return ans, err
}

func (a *Asker) ask(q *Question) (Answer, error) {
	if q.Proto2 {
		return a.ask2(q)
	}
	if q.TCP {
		return a.askTCP(q)
	}
	k := a.key(q)
	if q.Raw != nil {
		a.drop(k) // a malformed request starts on a fresh connection
	}
	_, kept := a.tunnels[k]
	t, err := a.tunnel(k)
	var refused *load.Refused
	if errors.As(err, &refused) {
		return Answer{Refused: refused.Status}, nil
	}
	if err != nil {
		return Answer{}, fmt.Errorf("%s: %v: %w", a.side, q, err)
	}
	ans, err := t.ask(q)
	if err != nil || ans.Closed || ans.Status == 0 || q.Raw != nil {
		a.drop(k)
	}
	if err == nil && ans.Status == 0 && kept && q.Raw == nil {
		return a.ask(q) // the kept connection had ended meanwhile
	}
	if err != nil {
		return ans, fmt.Errorf("%s: %v: %w", a.side, q, err)
	}
	return ans, nil
}

func (t *tunnel) ask(q *Question) (Answer, error) {
	t.c.SetDeadline(time.Now().Add(patience))
	if _, err := t.c.Write(q.Bytes()); err != nil {
		return Answer{Err: err.Error()}, nil
	}
	method := q.Method
	if q.Raw != nil {
		method, _, _ = strings.Cut(string(q.Raw), " ")
	}
	var res *http.Response
	for {
		var err error
		if res, err = http.ReadResponse(t.br, &http.Request{Method: method}); err != nil {
			return Answer{Err: err.Error()}, nil
		}
		if res.StatusCode >= 200 || res.StatusCode == 101 {
			break
		}
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return Answer{Err: "body: " + err.Error()}, nil
	}
	ans, err := newAnswer(res, string(body))
	if q.Raw != nil && !ans.Closed {
		ans.Closed = t.ends()
	}
	return ans, err
}

// ends reports whether the other side closes now without having been asked for
// more: half closing shows it at once.
func (t *tunnel) ends() bool {
	t.c.SetDeadline(time.Now().Add(50 * time.Millisecond))
	_, err := t.br.ReadByte()
	return err != nil && !isTimeout(err)
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

// ask2 asks over HTTP/2 inside the tunnel.
func (a *Asker) ask2(q *Question) (Answer, error) {
	k := tunnelKey{q.Client, q.Authority, "h2"}
	t, err := a.tunnel2(k)
	var refused *load.Refused
	if errors.As(err, &refused) {
		return Answer{Refused: refused.Status}, nil
	}
	if err != nil {
		return Answer{}, fmt.Errorf("%s: %v: %w", a.side, q, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var body io.Reader
	if q.Body != "" {
		body = strings.NewReader(q.Body)
	}
	req, err := http.NewRequestWithContext(ctx, q.Method, "http://"+q.Host, body)
	if err != nil {
		return Answer{}, err
	}
	req.URL.Opaque = "//" + q.Host + q.Target
	req.Header.Set("X-Case", q.ID)
	for _, h := range q.Headers {
		req.Header.Add(h[0], h[1])
	}
	res, err := t.h2.RoundTrip(req)
	if err != nil {
		a.drop(k)
		return Answer{Err: err.Error()}, nil
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return Answer{Err: "body: " + err.Error()}, nil
	}
	ans, err := newAnswer(res, string(b))
	for k, vs := range res.Trailer {
		for _, v := range vs {
			ans.Headers = append(ans.Headers, "trailer "+strings.ToLower(k)+": "+v)
		}
	}
	return ans, err
}

func (a *Asker) tunnel2(k tunnelKey) (*tunnel, error) {
	t, err := a.tunnel(k)
	if err != nil || t.h2 != nil {
		return t, err
	}
	tr := &http2.Transport{AllowHTTP: true, DisableCompression: true}
	if t.h2, err = tr.NewClientConn(t.c); err != nil {
		a.drop(k)
		return nil, err
	}
	return t, nil
}

func (a *Asker) key(q *Question) tunnelKey {
	k := tunnelKey{client: q.Client, authority: q.Authority}
	if q.Direct && a.direct.IsValid() {
		k.kind = "direct"
	}
	return k
}

// dialDirect connects from the client's address to the oracle's listener of the
// same chains, and says where to.
func (a *Asker) dialDirect(k tunnelKey) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), arrival)
	defer cancel()
	from, err := netip.ParseAddr(k.client.Addr)
	if err != nil {
		return nil, err
	}
	to, err := netip.ParseAddrPort(k.authority)
	if err != nil {
		return nil, err
	}
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))}
	c, err := d.DialContext(ctx, "tcp", a.direct.String())
	if err != nil {
		return nil, err
	}
	local := c.LocalAddr().(*net.TCPAddr).AddrPort()
	fmt.Fprintf(c, "PROXY TCP4 %s %s %d %d\r\n", local.Addr(), to.Addr(), local.Port(), to.Port())
	t := tls.Client(c, identity.ClientTLS(a.sources(k.client), nil))
	if err := t.HandshakeContext(ctx); err != nil {
		c.Close()
		return nil, err
	}
	return t, nil
}

// askTCP sends bytes and waits for what comes back. A connection that a policy
// denies ends without a byte, or is refused before.
func (a *Asker) askTCP(q *Question) (Answer, error) {
	k := a.key(q)
	t, err := a.tunnel(k)
	var refused *load.Refused
	if errors.As(err, &refused) {
		return Answer{Refused: refused.Status}, nil
	}
	if err != nil {
		return Answer{}, fmt.Errorf("%s: %v: %w", a.side, q, err)
	}
	defer a.drop(k)
	t.c.SetDeadline(time.Now().Add(patience))
	if _, err := t.c.Write(q.Raw); err != nil {
		return Answer{Err: err.Error()}, nil
	}
	line, err := t.br.ReadString('\n')
	if err != nil {
		return Answer{Err: err.Error(), Body: line}, nil
	}
	return Answer{Status: tcpServed, Body: line}, nil
}

// tcpServed stands in an Answer for a connection that an application answered.
const tcpServed = 1
