package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"waypoint.dev/waypoint/authz"
	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/internal/attrs"
	"waypoint.dev/waypoint/proxy/codec"
	"waypoint.dev/waypoint/resilience"
	"waypoint.dev/waypoint/routing"
	"waypoint.dev/waypoint/telemetry"
)

// Question is a request to explain.
type Question struct {
	Method  string // empty: GET
	URL     string // http://cart.shop.svc.cluster.local[:port]/path?query, or with the VIP as host
	Headers []attrs.Field
	From    attrs.Principal // the client's identity; zero: none
	Source  netip.Addr      // client pod address
	SNI     string          // server name of the client's TLS, where there is some
	HTTP2   bool

	// Unlisted takes backends of which nothing lists the endpoints for served:
	// manifests of a repository have no EndpointSlices, which the cluster makes.
	Unlisted bool
}

// Explanation is what a waypoint would do with a request, and why.
type Explanation struct {
	Destination string `json:"destination"`          // key of the destination addressed
	Decision    string `json:"decision"`             // of the policies: allow or deny
	Action      string `json:"action"`               // forward, answer, or close: a connection ends without an answer
	Status      int    `json:"status"`               // what this waypoint would answer itself; 200 where it would forward, 0 where it would close
	GRPCStatus  int    `json:"grpcStatus,omitempty"` // of an answer to a gRPC call, whose status is 200
	Connection  bool   `json:"connection"`           // without HTTP: the fields of requests are empty
	Path        string `json:"path"`                 // normalized, as policies and routes see it
	Route       string `json:"route"`
	Rule        string `json:"rule"`  // name, or index in the route
	Match       int    `json:"match"` // index in the rule
	Upstream    string `json:"upstreamPath,omitempty"`
	Host        string `json:"upstreamHost,omitempty"`
	Location    string `json:"location,omitempty"`
	Body        string `json:"body,omitempty"`

	Backends []ExplainedBackend `json:"backends"`
	Mirrors  []string           `json:"mirrors,omitempty"`
	Filters  []string           `json:"filters,omitempty"`

	Policy string `json:"policy,omitempty"` // "namespace/name" that decided
	PRule  string `json:"policyRule,omitempty"`
	Reason string `json:"reason,omitempty"`
	Audit  string `json:"audit,omitempty"` // "namespace/name" of the AUDIT policy that notes it

	// What policies with istio.io/dry-run would have done, "allowed" or "denied", and
	// which decided; empty: there are none.
	DryRun       string `json:"dryRun,omitempty"`
	DryRunPolicy string `json:"dryRunPolicy,omitempty"`

	Flags   string `json:"responseFlags"`
	Details string `json:"responseCodeDetails,omitempty"`

	Policies []authz.Considered   `json:"policies"`
	Routes   []routing.Considered `json:"routes"`
	NotAsked []string             `json:"notAsked,omitempty"` // stages with effects outside, left out
}

// ErrUnknownDestination is returned for a URL that no destination serves.
var ErrUnknownDestination = errors.New("proxy: no destination of this waypoint has that address")

// Explain takes a request through decide, the data path's own code, with an
// answer that goes nowhere. What would have effects outside is left out and
// listed: external authorization, faults, rate limits, mirrors.
//
// A URL of scheme tcp or tls stands for a connection without HTTP, and so does any
// URL of a port that is declared TCP or TLS. Of a rule whose backends share its
// requests, the answer is that of a share that is served, if there is one; Backends
// tells which are not.
func Explain(store *config.Store, q Question) (*Explanation, error) {
	u, target, err := splitURL(q.URL)
	if err != nil {
		return nil, err
	}
	snap := store.Load()
	chain, at, err := addressed(snap, u, q.From.Namespace)
	if err != nil {
		return nil, err
	}
	p := &Proxy{ctx: context.Background(), overload: new(resilience.Overload), opts: Options{Store: store, Telemetry: telemetry.New(telemetry.Options{})}, log: slog.New(slog.DiscardHandler)}
	x := newExchange()
	x.dry = true
	t := &tunnel{p: p, dry: x, assume: q.Unlisted, peer: p.opts.Telemetry.Peer(telemetry.Peer{Principal: q.From.URI})}
	t.conn = attrs.Conn{Peer: q.From, Source: netip.AddrPortFrom(q.Source, 0), Dest: at.addr, DestHost: at.host, DestPort: at.port, SNI: q.SNI}
	if declared := chain.Spec.Protocol; declared == config.ProtocolTCP || declared == config.ProtocolTLS || u.Scheme == "tcp" || u.Scheme == "tls" {
		return explainConn(t, chain, x), nil
	}
	in, err := q.head(u, target, &chain.Spec.Settings)
	if err != nil {
		return explainRefused(chain, err)
	}
	srv := &dryServer{head: in}
	x.begin(t, srv)
	defer x.end()
	forward := x.decide()
	if forward && t.idle(x.target) {
		x.fail(failNoHost, false)
		forward = false
	}
	return x.explain(chain, srv, forward), nil
}

// explain reads what decide left behind.
func (x *exchange) explain(chain *config.Chain, srv *dryServer, forward bool) *Explanation {
	e := &Explanation{
		Destination: chain.Spec.Key, Decision: "allow", Action: "answer", Status: srv.status, Path: strings.Clone(x.req.Path), Body: srv.body, Location: srv.location, GRPCStatus: srv.grpcStatus,
		Policy: strings.Clone(x.rec.Policy), PRule: strings.Clone(x.rec.Rule), Reason: strings.Clone(x.rec.Reason),
		Flags: x.rec.Flags.String(), Details: strings.Clone(x.rec.Details), NotAsked: x.notAsked,
		Audit: x.rec.Audit, DryRun: x.rec.DryRun, DryRunPolicy: x.rec.DryRunPolicy,
		Backends: []ExplainedBackend{}, Policies: []authz.Considered{}, Routes: []routing.Considered{}, Match: -1,
	}
	switch {
	case forward:
		e.Action, e.Status = "forward", 200
		e.Upstream, e.Host = strings.Clone(x.up.Target), strings.Clone(x.up.Authority)
	case x.rec.Denied:
		e.Decision = "deny"
	}
	// The request may not have come so far that its path was set: then neither
	// policy nor route saw it.
	if x.req.Path == "" {
		return e
	}
	for i := range chain.Stages {
		if st := &chain.Stages[i]; st.Authz != nil {
			e.Policies = append(e.Policies, st.Authz.Explain(&x.req)...)
		}
	}
	table := chain.Table(x.t.conn.Peer.Namespace)
	e.Routes = append(e.Routes, table.Explain(&x.req)...)
	res := x.result
	if res.Rule == nil {
		return e
	}
	e.Route, e.Rule, e.Match = res.Rule.Rule.Route, res.Rule.Label(), res.Match
	e.Backends = x.t.backends(chain, res.Rule)
	e.NotAsked = x.t.dry.notAsked
	for i := range e.Backends {
		x.share(chain, &e.Backends[i], &res.Rule.Backends[i])
	}
	e.Mirrors = mirrorKeys(chain, res.Rule.Mirrors)
	e.Filters = filters(res.Rule)
	return e
}

// address is what the CONNECT of a client's node proxy would name.
type address struct {
	addr netip.AddrPort
	host string // where the destination has no address
	port uint16
}

// addressed finds the destination of a URL as a client of that namespace would
// reach it: by VIP or pod address, or by a service's name, short or whole.
func addressed(s *config.Snapshot, u *url.URL, namespace string) (*config.Chain, address, error) {
	port := uint64(80)
	if u.Scheme == "https" || u.Scheme == "tls" {
		port = 443
	}
	if text := u.Port(); text != "" {
		var err error
		if port, err = strconv.ParseUint(text, 10, 16); err != nil {
			return nil, address{}, fmt.Errorf("proxy: port %q is not between 0 and 65535", text)
		}
	}
	host := strings.ToLower(strings.TrimSuffix(u.Hostname(), "."))
	at := address{port: uint16(port)}
	if a, err := netip.ParseAddr(host); err == nil {
		at.addr = netip.AddrPortFrom(a, at.port)
		if c := s.Lookup(at.addr, "", at.port); c != nil {
			return c, at, nil
		}
		return nil, at, fmt.Errorf("%w: %v", ErrUnknownDestination, at.addr)
	}
	for _, c := range s.Chains() {
		if c.Spec.Port != at.port || len(c.Spec.Addrs) == 0 || !names(c.Spec.Service, host, namespace) {
			continue
		}
		at.addr = netip.AddrPortFrom(c.Spec.Addrs[0].Addr(), at.port)
		return c, at, nil
	}
	// Through the gateway of another network a tunnel names the host itself.
	if c := s.Lookup(netip.AddrPort{}, host, at.port); c != nil {
		at.host = host
		return c, at, nil
	}
	return nil, address{}, fmt.Errorf("%w: %s", ErrUnknownDestination, net.JoinHostPort(host, strconv.FormatUint(port, 10)))
}

// names says whether host means the service: whole, "name.namespace[.svc]", or
// the bare name within its namespace.
func names(s config.Service, host, namespace string) bool {
	switch host {
	case s.Host, s.Name + "." + s.Namespace, s.Name + "." + s.Namespace + ".svc":
		return true
	case s.Name:
		return namespace == s.Namespace
	}
	return false
}

// dryServer is a codec.Server that keeps the answer and has no body to read.
type dryServer struct {
	head     *codec.RequestHead
	status   int
	location string
	body     string

	grpcStatus int
}

func (d *dryServer) Head() *codec.RequestHead { return d.head }
func (d *dryServer) Read([]byte) (int, error) { return 0, io.EOF }
func (d *dryServer) Trailers() []attrs.Field  { return nil }

func (d *dryServer) WriteHead(h *codec.ResponseHead, _ codec.Flags) error {
	d.status = h.Status
	for _, f := range h.Fields {
		if f.Name == "location" {
			d.location = strings.Clone(f.Value)
		}
	}
	d.readGRPC(h.Fields)
	return nil
}

// readGRPC finds the status of a call among fields.
func (d *dryServer) readGRPC(fields []attrs.Field) {
	for _, f := range fields {
		if f.Name == "grpc-status" {
			d.grpcStatus, _ = strconv.Atoi(f.Value)
		}
	}
}

func (d *dryServer) WriteBody(p []byte, _ codec.Flags) error {
	d.body += string(p)
	return nil
}

func (d *dryServer) WriteTrailers(fields []attrs.Field) error {
	d.readGRPC(fields)
	return nil
}
func (d *dryServer) Abort(error)                      {}
func (d *dryServer) SetReadDeadline(time.Time) error  { return nil }
func (d *dryServer) SetWriteDeadline(time.Time) error { return nil }
func (d *dryServer) Received() int64                  { return 0 }
func (d *dryServer) Sent() int64                      { return 0 }
