package xds

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
)

// Type is one kind of resource to subscribe to.
type Type struct {
	URL string
	// Wildcard subscribes to all resources of the type. The first response of each
	// stream is then the whole state, unless Config.Held told the server what is
	// there: what it does not name is gone.
	Wildcard bool
}

// Response is what the handler gets.
type Response struct {
	Type    string
	Version string // of the whole system, for display
	Server  string // the server's own identifier; istiod's is JSON with its version
	Full    bool   // the resources are all there are; forget others
	Upserts []*discovery.Resource
	Removed []string
}

// Handler takes responses.
type Handler interface {
	// Apply takes what it can of r. An error refuses the response: its text
	// reaches the server's operator, so it names each resource and what is wrong
	// with it. Good resources beside a bad one are to be applied all the same.
	Apply(r *Response) error
}

// Backoff between streams: Envoy's default for ADS, 500 ms doubling to 30 s, with
// full jitter.
const (
	backoffBase = 500 * time.Millisecond
	backoffMax  = 30 * time.Second
)

// Config of a Client.
type Config struct {
	Conn    grpc.ClientConnInterface
	Node    *corev3.Node
	Types   []Type // in the order to subscribe
	Handler Handler
	Log     *slog.Logger

	// Held returns the versions of the resources that the handler holds of a type, by
	// name. With it a new stream asks only for what differs: no response is then
	// Full, and the server names what is gone. nil: each stream starts from nothing,
	// as istiod wants it.
	Held func(typeURL string) map[string]string
}

// Client is one subscription to a server.
type Client struct {
	cfg Config
	log *slog.Logger

	mu     sync.Mutex
	names  map[string]map[string]bool // guarded by mu: named subscriptions by type
	stream discovery.AggregatedDiscoveryService_DeltaAggregatedResourcesClient
	opened map[string]bool // guarded by mu: types subscribed to on this stream

	connected atomic.Bool
	streams   atomic.Int64
	acks      atomic.Int64
	nacks     atomic.Int64
}

// New makes a client; Run starts it.
func New(cfg Config) *Client {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Client{cfg: cfg, log: cfg.Log, names: map[string]map[string]bool{}}
}

// Stats are counters for metrics and admin.
type Stats struct {
	Connected            bool
	Streams, Acks, Nacks int64
}

// Stats returns the counters.
func (c *Client) Stats() Stats {
	return Stats{c.connected.Load(), c.streams.Load(), c.acks.Load(), c.nacks.Load()}
}

// Run keeps the subscription up until ctx ends.
func (c *Client) Run(ctx context.Context) error {
	wait := backoffBase
	for ctx.Err() == nil {
		start := time.Now()
		got, err := c.serve(ctx)
		c.connected.Store(false)
		if ctx.Err() != nil {
			break
		}
		if got {
			wait = backoffBase
		}
		pause := time.Duration(rand.Int64N(int64(wait)) + 1)
		// istiod ends streams every 30 minutes or so; that is no news.
		level := slog.LevelInfo
		if !got {
			level = slog.LevelWarn
		}
		c.log.Log(ctx, level, "the configuration stream ended; what was received stays in force", "error", err, "age", time.Since(start).Round(time.Second), "retry", pause.Round(time.Millisecond))
		wait = min(2*wait, backoffMax)
		t := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			t.Stop()
		case <-t.C:
		}
	}
	return ctx.Err()
}

// serve runs one stream to its end and says whether anything came.
func (c *Client) serve(ctx context.Context) (got bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := discovery.NewAggregatedDiscoveryServiceClient(c.cfg.Conn).DeltaAggregatedResources(ctx)
	if err != nil {
		return false, err
	}
	c.streams.Add(1)
	if err := c.open(s); err != nil {
		return false, err
	}
	defer func() {
		c.mu.Lock()
		c.stream = nil
		c.mu.Unlock()
	}()
	seen := map[string]bool{}
	for {
		m, err := s.Recv()
		if err != nil {
			return got, err
		}
		got = true
		c.connected.Store(true)
		r := &Response{Type: m.TypeUrl, Version: m.SystemVersionInfo, Server: m.GetControlPlane().GetIdentifier(), Upserts: m.Resources, Removed: m.RemovedResources}
		r.Full = c.cfg.Held == nil && !seen[m.TypeUrl] && c.wildcard(m.TypeUrl)
		seen[m.TypeUrl] = true
		if err := c.answer(m, c.cfg.Handler.Apply(r)); err != nil {
			return got, err
		}
	}
}

// open sends the first request of each type, the node with the very first.
func (c *Client) open(s discovery.AggregatedDiscoveryService_DeltaAggregatedResourcesClient) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stream, c.opened = s, map[string]bool{}
	node := c.cfg.Node
	for _, t := range c.cfg.Types {
		names := keys(c.names[t.URL])
		if !t.Wildcard && len(names) == 0 {
			continue
		}
		req := &discovery.DeltaDiscoveryRequest{Node: node, TypeUrl: t.URL, ResourceNamesSubscribe: names}
		if c.cfg.Held != nil {
			req.InitialResourceVersions = c.cfg.Held(t.URL)
		}
		if err := s.Send(req); err != nil {
			return err
		}
		node = nil
		c.opened[t.URL] = true
	}
	return nil
}

func (c *Client) answer(m *discovery.DeltaDiscoveryResponse, refused error) error {
	req := &discovery.DeltaDiscoveryRequest{TypeUrl: m.TypeUrl, ResponseNonce: m.Nonce}
	if refused != nil {
		c.nacks.Add(1)
		c.log.Error("configuration refused; the last good version of what it names stays in force", "type", m.TypeUrl, "error", refused)
		req.ErrorDetail = &status.Status{Code: int32(codes.InvalidArgument), Message: refused.Error()}
	} else {
		c.acks.Add(1)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stream == nil {
		return fmt.Errorf("xds: the stream is gone")
	}
	return c.stream.Send(req)
}

// Subscribe makes names the named resources of a type; what is no longer among
// them is given up.
func (c *Client) Subscribe(url string, names []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.names[url]
	now := make(map[string]bool, len(names))
	req := &discovery.DeltaDiscoveryRequest{TypeUrl: url}
	for _, n := range names {
		now[n] = true
		if !old[n] {
			req.ResourceNamesSubscribe = append(req.ResourceNamesSubscribe, n)
		}
	}
	for _, n := range keys(old) {
		if !now[n] {
			req.ResourceNamesUnsubscribe = append(req.ResourceNamesUnsubscribe, n)
		}
	}
	c.names[url] = now
	if c.stream == nil || len(req.ResourceNamesSubscribe)+len(req.ResourceNamesUnsubscribe) == 0 {
		return
	}
	if !c.opened[url] {
		// The first request of a type must not be an empty subscription: that
		// would mean the wildcard.
		if len(req.ResourceNamesSubscribe) == 0 {
			return
		}
		c.opened[url] = true
	}
	slices.Sort(req.ResourceNamesSubscribe)
	// A failed send is the end of the stream, which Recv reports.
	_ = c.stream.Send(req)
}

func (c *Client) wildcard(url string) bool {
	for _, t := range c.cfg.Types {
		if t.URL == url {
			return t.Wildcard
		}
	}
	return false
}

func keys(m map[string]bool) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
