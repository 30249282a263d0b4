package load

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"waypoint.dev/waypoint/hbone/h2"
	"waypoint.dev/waypoint/identity"
)

// Workload is what Run does.
type Workload struct {
	Waypoint  netip.AddrPort
	Client    identity.Source
	Authority string  // of the tunnels, "10.96.0.10:80"
	Conns     int     // HBONE connections
	Streams   int     // tunnels on each, every one a keep-alive HTTP/1.1 connection
	Request   []byte  // raw HTTP/1.1 request
	Requests  int     // in all
	Rate      float64 // requests a second over all tunnels; 0: closed loop
	Buffer    int     // read buffer of a tunnel; 0: 16 KiB
	Protocol  Protocol
}

// Result of a workload.
type Result struct {
	Requests, Failed int
	Bytes            int64
	Elapsed          time.Duration
	FirstError       error
	latencies        []time.Duration // sorted
}

// Quantile is a latency from the intended send time.
func (r *Result) Quantile(q float64) time.Duration {
	if len(r.latencies) == 0 {
		return 0
	}
	return r.latencies[min(len(r.latencies)-1, int(q*float64(len(r.latencies))))]
}

// PerSecond is the rate that was reached.
func (r *Result) PerSecond() float64 { return float64(r.Requests) / r.Elapsed.Seconds() }

// Session holds open tunnels, so that one set of them serves several runs.
type Session struct {
	w       Workload
	conns   []*Conn
	streams []*h2.Stream
	http2   []*exchanger2 // of streams, unless Protocol is HTTP1
}

// Open dials all connections and tunnels.
func Open(ctx context.Context, w Workload) (*Session, error) {
	s := &Session{w: w}
	for range w.Conns {
		c, err := Dial(ctx, w.Waypoint, w.Client)
		if err != nil {
			s.Close()
			return nil, err
		}
		s.conns = append(s.conns, c)
		for range w.Streams {
			t, err := c.Tunnel(w.Authority)
			if err != nil {
				s.Close()
				return nil, err
			}
			s.streams = append(s.streams, t)
			if w.Protocol == HTTP1 {
				continue
			}
			e, err := newExchanger2(t, w.Request, w.Protocol == GRPC)
			if err != nil {
				s.Close()
				return nil, err
			}
			s.http2 = append(s.http2, e)
		}
	}
	return s, nil
}

// Close ends all tunnels and connections.
func (s *Session) Close() {
	for _, e := range s.http2 {
		e.close()
	}
	for _, t := range s.streams {
		t.Close()
	}
	for _, c := range s.conns {
		c.Close()
	}
}

// Run sends requests over all tunnels, evenly.
func (s *Session) Run(ctx context.Context, requests int, rate float64) (*Result, error) {
	if len(s.streams) == 0 {
		return nil, fmt.Errorf("load: no tunnels")
	}
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		total Result
	)
	each := requests / len(s.streams)
	start := time.Now()
	for i := range s.streams {
		wg.Go(func() {
			r := s.tunnel(ctx, s.asker(i, nil), each, rate/float64(len(s.streams)), start.Add(stagger(i, len(s.streams), rate)))
			mu.Lock()
			defer mu.Unlock()
			total.Requests += r.Requests
			total.Failed += r.Failed
			total.Bytes += r.Bytes
			total.latencies = append(total.latencies, r.latencies...)
			if total.FirstError == nil {
				total.FirstError = r.FirstError
			}
		})
	}
	wg.Wait()
	total.Elapsed = time.Since(start)
	slices.Sort(total.latencies)
	return &total, ctx.Err()
}

// stagger spreads paced tunnels evenly over one interval.
func stagger(i, n int, rate float64) time.Duration {
	if rate <= 0 {
		return 0
	}
	return time.Duration(float64(i) / rate * float64(time.Second))
}

// asker asks on tunnel i, over HTTP/1.1 with buf or one of its own.
func (s *Session) asker(i int, buf []byte) asker {
	if s.http2 != nil {
		return s.http2[i]
	}
	if buf == nil {
		buf = make([]byte, s.buffer())
	}
	return &exchanger{rw: s.streams[i], buf: buf}
}

func (s *Session) buffer() int {
	if s.w.Buffer == 0 {
		return 16 << 10
	}
	return s.w.Buffer
}

func (s *Session) tunnel(ctx context.Context, e asker, n int, rate float64, next time.Time) Result {
	r := Result{latencies: make([]time.Duration, 0, n)}
	var interval time.Duration
	if rate > 0 {
		interval = time.Duration(float64(time.Second) / rate)
	}
	for range n {
		if ctx.Err() != nil {
			break
		}
		at := time.Now()
		if interval > 0 {
			if d := next.Sub(at); d > 0 {
				time.Sleep(d)
			}
			at, next = next, next.Add(interval)
		}
		status, body, err := e.do(s.w.Request)
		r.Requests++
		r.Bytes += body
		r.latencies = append(r.latencies, time.Since(at))
		if err == nil && status != 200 {
			err = fmt.Errorf("load: status %d", status)
		}
		if err != nil {
			r.Failed++
			r.FirstError = err
			break
		}
	}
	return r
}

// Each sends one request on every tunnel, one after another.
func (s *Session) Each(ctx context.Context) error {
	buf := make([]byte, s.buffer())
	for i := range s.streams {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		status, _, err := s.asker(i, buf).do(s.w.Request)
		if err != nil {
			return err
		}
		if status != 200 {
			return fmt.Errorf("load: status %d", status)
		}
	}
	return nil
}
