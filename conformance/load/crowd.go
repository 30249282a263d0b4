package load

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"waypoint.dev/waypoint/hbone/h2"
	"waypoint.dev/waypoint/identity"
)

// Crowd is an open loop of many users: questions come at their time, whatever
// became of those before. Every user has one HTTP/1.1 connection, so one tunnel,
// and opens another when it was closed.
type Crowd struct {
	Waypoint  netip.AddrPort
	Client    identity.Source
	Authority string
	Users     int
	PerConn   int     // users that share an HBONE connection
	Rate      float64 // questions a second over all users; 0: closed loop
	Request   []byte
	Deadline  time.Duration // an answer later than so long after its question's time is no good one
	Span      time.Duration
}

// Tally is what became of the questions. Each is in one of the counts but Offered.
type Tally struct {
	Offered int
	Good    int // answered 200 in time
	Late    int // answered 200, too late
	Shed    int // answered 503 inside the tunnel
	Refused int // the CONNECT was answered 503
	Busy    int // not sent: the user still waited for an answer
	Failed  int // anything else

	FirstError error
	Elapsed    time.Duration
	latencies  []time.Duration // of the good ones; sorted
}

// Goodput is good answers a second.
func (t *Tally) Goodput() float64 { return float64(t.Good) / t.Elapsed.Seconds() }

// Quantile is a latency of the good answers.
func (t *Tally) Quantile(q float64) time.Duration {
	r := Result{latencies: t.latencies}
	return r.Quantile(q)
}

// String is the tally in one line.
func (t *Tally) String() string {
	return fmt.Sprintf("%.0f/s good of %.0f/s offered; late %d, 503 inside %d, CONNECT 503 %d, busy %d, failed %d; p50 %v, p99 %v",
		t.Goodput(), float64(t.Offered)/t.Elapsed.Seconds(), t.Late, t.Shed, t.Refused, t.Busy, t.Failed,
		t.Quantile(.5).Round(10*time.Microsecond), t.Quantile(.99).Round(10*time.Microsecond))
}

// Run lets the crowd ask for its span.
func (c *Crowd) Run(ctx context.Context) (*Tally, error) {
	var conns []*Conn
	defer func() {
		for _, h := range conns {
			h.Close()
		}
	}()
	for range (c.Users + c.PerConn - 1) / c.PerConn {
		h, err := Dial(ctx, c.Waypoint, c.Client)
		if err != nil {
			return nil, err
		}
		conns = append(conns, h)
	}
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		total Tally
	)
	start := time.Now()
	for i := range c.Users {
		wg.Go(func() {
			u := user{c: c, conn: conns[i/c.PerConn]}
			u.run(ctx, start.Add(stagger(i, c.Users, c.Rate)), start.Add(c.Span))
			mu.Lock()
			defer mu.Unlock()
			total.add(&u.t)
		})
	}
	wg.Wait()
	total.Elapsed = time.Since(start)
	slices.Sort(total.latencies)
	return &total, ctx.Err()
}

func (t *Tally) add(o *Tally) {
	t.Offered += o.Offered
	t.Good += o.Good
	t.Late += o.Late
	t.Shed += o.Shed
	t.Refused += o.Refused
	t.Busy += o.Busy
	t.Failed += o.Failed
	if t.FirstError == nil {
		t.FirstError = o.FirstError
	}
	t.latencies = append(t.latencies, o.latencies...)
}

// user is one of the crowd.
type user struct {
	c    *Crowd
	conn *Conn
	s    *h2.Stream // nil: none open
	e    exchanger
	t    Tally
}

func (u *user) run(ctx context.Context, next, end time.Time) {
	defer u.leave()
	var interval time.Duration
	if u.c.Rate > 0 {
		interval = time.Duration(float64(time.Second) * float64(u.c.Users) / u.c.Rate)
	}
	for ctx.Err() == nil {
		now := time.Now()
		if interval == 0 {
			next = now
		}
		// Those whose time passed while the user waited.
		for interval > 0 && now.Sub(next) >= interval {
			u.t.Offered++
			u.t.Busy++
			next = next.Add(interval)
		}
		if !next.Before(end) {
			return
		}
		if d := next.Sub(now); d > 0 {
			time.Sleep(d)
		}
		u.t.Offered++
		u.ask(next)
		next = next.Add(interval)
	}
}

func (u *user) leave() {
	if u.s != nil {
		u.s.Close()
		u.s = nil
	}
}

// ask asks once and counts what became of it.
func (u *user) ask(at time.Time) {
	if u.s == nil {
		s, err := u.conn.Tunnel(u.c.Authority)
		if r := (*Refused)(nil); errors.As(err, &r) && r.Status == 503 {
			u.t.Refused++
			return
		}
		if err != nil {
			u.fail(err)
			return
		}
		u.s, u.e = s, exchanger{rw: s, buf: u.e.buf}
		if u.e.buf == nil {
			u.e.buf = make([]byte, 4<<10)
		}
	}
	status, _, err := u.e.do(u.c.Request)
	took := time.Since(at)
	switch {
	case err != nil:
		u.fail(err)
	case status == 503:
		u.t.Shed++
		u.leave() // the answer said so
	case status != 200:
		u.fail(fmt.Errorf("load: status %d", status))
	case took > u.c.Deadline:
		u.t.Late++
	default:
		u.t.Good++
		u.t.latencies = append(u.t.latencies, took)
	}
}

func (u *user) fail(err error) {
	u.t.Failed++
	if u.t.FirstError == nil {
		u.t.FirstError = err
	}
	u.leave()
}
