package hbone

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"

	"waypoint.dev/waypoint/identity"
)

// Stage says how far a dial came.
type Stage uint8

// Stages of a dial. None of them let a request byte out.
const (
	StageTCP      Stage = iota + 1 // no TCP connection
	StageTLS                       // no TLS session, or the peer did not take our certificate
	StageIdentity                  // the peer is not who it must be
	StageConnect                   // CONNECT refused (Status is set) or not answered
	StageTimeout                   // out of time, wherever it was
	StageCanceled                  // the caller gave up
	StagePool                      // the pool is closed or its queue full, the endpoint evicted
)

var stages = [...]string{"", "tcp", "tls", "identity", "connect", "timeout", "canceled", "pool"}

// String returns the name of s in lower case.
func (s Stage) String() string {
	if int(s) < len(stages) {
		return stages[s]
	}
	return fmt.Sprintf("stage(%d)", uint8(s))
}

// DialError says why there is no tunnel. No request byte was ever sent, so the
// request may go to another endpoint, whatever its method.
type DialError struct {
	Stage  Stage
	Status int // of a refused CONNECT, else 0
	Err    error
}

func (e *DialError) Error() string {
	if e.Status != 0 {
		return fmt.Sprintf("hbone: dial: CONNECT refused with status %d", e.Status)
	}
	return fmt.Sprintf("hbone: dial: %v: %v", e.Stage, e.Err)
}

// Unwrap returns the cause.
func (e *DialError) Unwrap() error { return e.Err }

// Timeout reports whether time ran out; it makes a DialError a net.Error.
func (e *DialError) Timeout() bool { return e.Stage == StageTimeout }

// Temporary implements net.Error.
func (e *DialError) Temporary() bool { return e.Stage == StageTimeout }

var _ net.Error = (*DialError)(nil)

// Causes within a DialError.
var (
	ErrPoolClosed = errors.New("hbone: pool is closed")
	ErrPoolFull   = errors.New("hbone: too many dials wait for this destination")
	ErrEvicted    = errors.New("hbone: endpoint was evicted")
	errRefused    = errors.New("hbone: tunnel refused")
	errDead       = errors.New("hbone: connection does not answer")
)

// dialError gives err its stage; the end of ctx and wrong identities are told
// from the stage where they struck.
func dialError(ctx context.Context, at Stage, err error) *DialError {
	if de := (*DialError)(nil); errors.As(err, &de) {
		return de
	}
	switch {
	case errors.Is(context.Cause(ctx), context.Canceled):
		return &DialError{Stage: StageCanceled, Err: fmt.Errorf("during %v: %w", at, context.Canceled)}
	case ctx.Err() != nil || errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded):
		return &DialError{Stage: StageTimeout, Err: fmt.Errorf("during %v: %w", at, err)}
	case errors.Is(err, identity.ErrIdentity):
		return &DialError{Stage: StageIdentity, Err: err}
	}
	// A kernel that gave up on SYNs.
	if ne := net.Error(nil); at == StageTCP && errors.As(err, &ne) && ne.Timeout() {
		return &DialError{Stage: StageTimeout, Err: fmt.Errorf("during %v: %w", at, err)}
	}
	return &DialError{Stage: at, Err: err}
}
