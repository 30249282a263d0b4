package hbone

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"waypoint.dev/waypoint/hbone/h2"
	"waypoint.dev/waypoint/identity"
	"waypoint.dev/waypoint/internal/attrs"
)

// Defaults of PoolConfig.
const (
	defaultConnectTimeout = 10 * time.Second // ztunnel's TCP connect timeout; here it spans the whole dial, of callers without a deadline
	defaultIdleTimeout    = 5 * time.Minute  // ztunnel's POOL_UNUSED_RELEASE_TIMEOUT
	defaultMaxStreams     = 100              // ztunnel's POOL_MAX_STREAMS_PER_CONNECTION
	// Batching many streams into one TLS record stream saves most of its cost by
	// 16 streams (docs: performance); past twice that, one connection's writer is
	// a serial point that a second connection relieves.
	defaultSpreadStreams = 32
	defaultSpreadConns   = 4
	defaultPoolConns     = 256
	defaultMaxWaiting    = 16384
	defaultBulkBytes     = 1 << 20
	defaultProbeAfter    = time.Second
	defaultProbeTimeout  = 2 * time.Second

	// maxAttempts bounds the connections that one Dial tries.
	maxAttempts = 3
)

// Target is a place to tunnel to.
type Target struct {
	Addr      netip.AddrPort // where HBONE is spoken, ip:15008
	Authority string         // of the CONNECT, podIP:targetPort
	Identity  string         // expected SPIFFE URI; empty: any in the trust domains
}

// PoolConfig is fixed for the life of a pool. The zero value of each field but
// TLS means the default named beside it.
type PoolConfig struct {
	TLS     identity.Source
	Revoked func(*x509.Certificate) bool // revocation list; nil: none

	Network string // the waypoint's own, told to the other end of double tunnels; empty: not told

	H2             h2.Config     // Connect is set by the pool
	ConnectTimeout time.Duration // TCP, TLS and the answer to CONNECT together (as long as the caller has, or 10 s)
	IdleTimeout    time.Duration // a connection without tunnels closes (5 min)
	MaxStreams     int           // tunnels on a connection; the peer may allow fewer (100)
	SpreadStreams  int           // another connection is dialed when all carry so many (32)
	SpreadConns    int           // but for that no more than so many a destination (4)
	MaxConns       int           // connections a destination (256)
	MaxWaiting     int           // dials that wait for a connection, a destination (16,384)
	BulkBytes      int64         // a tunnel that moved so much within a second keeps new ones off its connection (1 MiB)
	ProbeAfter     time.Duration // a CONNECT unanswered for so long sends a PING (1 s)
	ProbeTimeout   time.Duration // and no answer to it for so long gives the connection up; a new one gets as long (2 s)

	// DialTCP replaces the TCP dialer; nil: keepalive 180 s, NODELAY.
	DialTCP func(ctx context.Context, addr netip.AddrPort) (net.Conn, error)

	Log *slog.Logger // nil: none
}

// Pool keeps HBONE connections to destinations, keyed by address and expected
// identity. A new tunnel takes the connection with the fewest; one that is at
// its limit, carries bulk, is under suspicion or goes away is passed over.
type Pool struct {
	// Fixed after NewPool.
	cfg    PoolConfig
	log    *slog.Logger
	own    identity.Verifier
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	stats  poolStats

	wg sync.WaitGroup // dials, connections, probes, the watcher

	mu     sync.Mutex // guards what follows and the fields of dest and poolConn that say so
	dests  map[destKey]*dest
	all    map[*poolConn]struct{} // every connection that lives, retired ones too
	closed bool
}

type destKey struct {
	addr     netip.AddrPort
	identity string
}

// NewPool returns an empty pool. Close it.
func NewPool(cfg PoolConfig) *Pool {
	cfg.ConnectTimeout = max(cfg.ConnectTimeout, 0)
	def(&cfg.IdleTimeout, defaultIdleTimeout)
	def(&cfg.MaxStreams, defaultMaxStreams)
	def(&cfg.SpreadStreams, defaultSpreadStreams)
	def(&cfg.SpreadConns, defaultSpreadConns)
	def(&cfg.MaxConns, defaultPoolConns)
	def(&cfg.MaxWaiting, defaultMaxWaiting)
	def(&cfg.BulkBytes, defaultBulkBytes)
	def(&cfg.ProbeAfter, defaultProbeAfter)
	def(&cfg.ProbeTimeout, defaultProbeTimeout)
	if cfg.DialTCP == nil {
		cfg.DialTCP = dialTCP
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	cfg.H2.Connect = true
	p := &Pool{
		cfg:   cfg,
		log:   cfg.Log,
		own:   identity.Verifier{Source: cfg.TLS, Usage: x509.ExtKeyUsageClientAuth},
		dests: make(map[destKey]*dest),
		all:   make(map[*poolConn]struct{}),
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.wg.Go(p.watch)
	return p
}

func def[T int | int64 | time.Duration](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}

// Dial returns a tunnel whose CONNECT was answered 200; hdr are the fields of
// the CONNECT (names in lower case). It fails with *[DialError], and then no
// request byte was sent.
func (p *Pool) Dial(ctx context.Context, t Target, hdr []attrs.Field) (*Tunnel, error) {
	ctx, cancel := p.bounded(ctx)
	defer cancel()
	key := destKey{t.Addr, t.Identity}
	for attempt := 1; ; attempt++ {
		c, err := p.acquire(ctx, key)
		if err != nil {
			return nil, err
		}
		tun, again, err := c.connect(ctx, t.Authority, hdr)
		if err == nil {
			p.stats.opened.Add(1)
			return tun, nil
		}
		if !again || attempt == maxAttempts || ctx.Err() != nil {
			return nil, dialError(ctx, StageConnect, err)
		}
		p.stats.retries.Add(1)
		if errors.Is(err, errDead) {
			// What is gone is mostly the peer, not only the connection to it: it gets as
			// long again to show otherwise, and the caller the rest for another endpoint.
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, p.cfg.ProbeTimeout)
			defer cancel()
		}
	}
}

// bounded gives ctx the pool's timeout, unless that is not set and ctx has a deadline.
func (p *Pool) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok && p.cfg.ConnectTimeout == 0 {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, cmp.Or(p.cfg.ConnectTimeout, defaultConnectTimeout))
}

// Evict gives the connections to addr no new tunnels; the open ones finish.
// Dials that wait for addr fail. A later Dial starts anew.
func (p *Pool) Evict(addr netip.AddrPort) {
	p.mu.Lock()
	var conns []*poolConn
	for k, d := range p.dests {
		if k.addr == addr {
			conns = append(conns, d.conns...)
			d.abandonLocked(&DialError{Stage: StagePool, Err: ErrEvicted})
		}
	}
	p.mu.Unlock()
	for _, c := range conns {
		c.retire("evicted")
	}
}

// Close ends every connection at once and waits for the pool's goroutines.
func (p *Pool) Close() {
	p.mu.Lock()
	p.closed = true
	conns := slices.Collect(maps.Keys(p.all))
	for _, d := range p.dests {
		d.abandonLocked(&DialError{Stage: StagePool, Err: ErrPoolClosed})
	}
	p.mu.Unlock()
	p.cancel()
	for _, c := range conns {
		c.h2.Close(ErrPoolClosed)
	}
	p.wg.Wait()
}

// watch retires the connections that a change of roots left without trust.
func (p *Pool) watch() {
	for {
		changed := p.cfg.TLS.Changed()
		p.mu.Lock()
		conns := slices.Collect(maps.Keys(p.all))
		p.mu.Unlock()
		for _, c := range conns {
			c.recheck()
		}
		select {
		case <-changed:
		case <-p.ctx.Done():
			return
		}
	}
}

// Stats returns the counts so far and the size of the pool.
func (p *Pool) Stats() PoolStats {
	st := PoolStats{
		Dials: p.stats.dials.Load(), DialErrors: p.stats.dialErrors.Load(), Dead: p.stats.dead.Load(),
		Retired: p.stats.retired.Load(), Opened: p.stats.opened.Load(), Refused: p.stats.refused.Load(),
		Retries: p.stats.retries.Load(),
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, d := range p.dests {
		st.Waiting += len(d.waiters)
	}
	for c := range p.all {
		st.Conns++
		st.Tunnels += c.taken
	}
	return st
}
