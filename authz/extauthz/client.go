package extauthz

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"

	"waypoint.dev/waypoint/internal/attrs"
)

// Dial connects to the provider; TLS, if any, is its business.
type Dial func(ctx context.Context) (net.Conn, error)

// Client asks one provider. It is safe for concurrent use; Close it.
type Client struct {
	conf    Config
	dial    Dial
	breaker *gobreaker.CircuitBreaker[Outcome] // nil: off
	caller  caller
	refused atomic.Bool // the last connection attempt failed
}

// caller is one of the two protocols.
type caller interface {
	// check returns the provider's answer, or an error if it gave none.
	check(ctx context.Context, in *Input) (Outcome, error)
	close()
}

// Input is what a check tells about a request. Nothing is kept of it.
type Input struct {
	Request   *attrs.Request
	Conn      *attrs.Conn // of a connection without HTTP: Request is nil
	RequestID string
	Protocol  string // "HTTP/1.1", "HTTP/2"
	Time      time.Time
	Size      int64 // of the request body, -1 if unknown
	// Body is what the proxy buffered of the body, up to Config.Body.MaxBytes;
	// Partial says that there was more.
	Body    []byte
	Partial bool
}

// Breaker settings: five failures in a row open it for five seconds, and one
// call then tries again.
const (
	breakerFailures = 5
	breakerOpen     = 5 * time.Second
)

// New makes a client; the error says which setting cannot be used. It does not
// connect.
func New(c Config, dial Dial) (*Client, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	if c.Timeout == 0 {
		c.Timeout = defaultTimeout
	}
	cl := &Client{conf: c, dial: dial}
	if c.Breaker == BreakerOn || c.Breaker == BreakerAuto && !c.FailOpen {
		cl.breaker = gobreaker.NewCircuitBreaker[Outcome](gobreaker.Settings{
			Name:         c.Name,
			Timeout:      breakerOpen,
			ReadyToTrip:  func(n gobreaker.Counts) bool { return n.ConsecutiveFailures >= breakerFailures },
			IsSuccessful: func(err error) bool { return !errors.As(err, new(*unreachable)) },
			IsExcluded:   func(err error) bool { return errors.Is(err, context.Canceled) },
		})
	}
	var err error
	if c.GRPC != nil {
		cl.caller, err = newGRPC(cl)
	} else {
		cl.caller = newHTTP(cl)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.Name, err)
	}
	return cl, nil
}

// Close ends the connections to the provider. Checks under way fail.
func (c *Client) Close() { c.caller.close() }

// NeedsBody returns how much of the request body a check wants: at most limit
// bytes, of which a longer body is cut if partial, else answered 413. A limit of 0
// wants none.
func (c *Client) NeedsBody() (limit int, partial bool) {
	if c.conf.Body == nil {
		return 0, false
	}
	return c.conf.Body.MaxBytes, c.conf.Body.Partial
}

// TCP reports whether connections without HTTP can be checked: gRPC only.
func (c *Client) TCP() bool { return c.conf.GRPC != nil }

// unreachable is an error that says nothing but that the server could not be
// asked: connect failures and timeouts. Only these count for the breaker.
type unreachable struct{ err error }

func (e *unreachable) Error() string { return e.err.Error() }
func (e *unreachable) Unwrap() error { return e.err }

// Check asks about in. It returns when the provider answered, the timeout has
// passed or ctx ended; the last two are failures.
func (c *Client) Check(ctx context.Context, in *Input) Outcome {
	call, cancel := context.WithTimeout(ctx, c.conf.Timeout)
	defer cancel()
	ask := func() (Outcome, error) {
		o, err := c.caller.check(call, in)
		switch {
		case err == nil:
		case ctx.Err() != nil: // the client went away: nobody's fault
			err = fmt.Errorf("%w: %w", context.Canceled, err)
		case call.Err() != nil:
			err = &unreachable{fmt.Errorf("no answer in %v: %w", c.conf.Timeout, err)}
		}
		return o, err
	}
	var o Outcome
	var err error
	if c.breaker != nil {
		o, err = c.breaker.Execute(ask)
	} else {
		o, err = ask()
	}
	if err != nil {
		return c.failed(fmt.Errorf("ext_authz %s: %w", c.conf.Name, err))
	}
	if o.Verdict == Allowed {
		o.ClearRoute = c.conf.ClearRouteCache
	}
	return o
}

// connect is the dial function of both transports.
func (c *Client) connect(ctx context.Context) (net.Conn, error) {
	conn, err := c.dial(ctx)
	c.refused.Store(err != nil)
	if err != nil {
		return nil, &unreachable{err}
	}
	return conn, nil
}
