package telemetry

import (
	"io"
	"sync"
	"sync/atomic"
)

// Format of access-log lines.
type Format uint8

const (
	Text Format = iota // Istio's default text format
	JSON               // the same values under Istio's JSON keys
)

// maxPending bounds the bytes waiting for the sink: some 4,000 lines. Past it
// lines are dropped and counted, so that a stuck disk never slows a request.
const maxPending = 1 << 20

// AccessLog appends one line an exchange to a buffer that one goroutine writes.
type AccessLog struct {
	w      io.Writer
	format Format
	wake   chan struct{}
	done   chan struct{}
	lost   atomic.Uint64

	mu      sync.Mutex
	pending []byte // guarded by mu
	spare   []byte // guarded by mu: the buffer not being written
	closed  bool   // guarded by mu
}

// NewAccessLog starts the writer. Close flushes and stops it.
func NewAccessLog(w io.Writer, f Format) *AccessLog {
	l := &AccessLog{w: w, format: f, wake: make(chan struct{}, 1), done: make(chan struct{})}
	go l.run()
	return l
}

// Lost is how many lines were dropped.
func (l *AccessLog) Lost() uint64 { return l.lost.Load() }

// write appends a line in the log's own format.
func (l *AccessLog) write(r *Record) { l.append(r, nil) }

// append appends a line of a pattern; nil: in the log's own format.
func (l *AccessLog) append(r *Record, p *Pattern) {
	l.mu.Lock()
	if l.closed || len(l.pending) > maxPending {
		l.mu.Unlock()
		l.lost.Add(1)
		return
	}
	switch {
	case p != nil:
		l.pending = p.Append(l.pending, r)
	case l.format == JSON:
		l.pending = appendJSON(l.pending, r)
	default:
		l.pending = appendText(l.pending, r)
	}
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (l *AccessLog) run() {
	defer close(l.done)
	for range l.wake {
		for {
			l.mu.Lock()
			b := l.pending
			if len(b) == 0 {
				closed := l.closed
				l.mu.Unlock()
				if closed {
					return
				}
				break
			}
			l.pending = l.spare[:0]
			l.spare = nil
			l.mu.Unlock()
			if _, err := l.w.Write(b); err != nil {
				l.lost.Add(1)
			}
			l.mu.Lock()
			l.spare = b
			l.mu.Unlock()
		}
	}
}

// Close writes what is pending and stops the writer. Later lines are lost.
func (l *AccessLog) Close() error {
	l.mu.Lock()
	again := l.closed
	l.closed = true
	l.mu.Unlock()
	if !again {
		select {
		case l.wake <- struct{}{}:
		default:
		}
	}
	<-l.done
	return nil
}
