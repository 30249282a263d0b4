package mesh

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// pace leaves the machine to what is tested: a loss shows by its kind, not by its share.
const pace = 5 * time.Millisecond

// load asks a Service all the time.
type load struct {
	t          *testing.T
	sent, lost atomic.Int64
	first      sync.Once
	cancel     context.CancelFunc
	wg         sync.WaitGroup
}

// underLoad lets a pod ask a Service of its namespace by several connections until end.
func underLoad(t *testing.T, ns, client, service string) *load {
	t.Helper()
	newCaller(t, ns, client).expect("GET", "http://"+service+"/", nil, status(http.StatusOK))
	ctx, cancel := context.WithCancel(t.Context())
	l := &load{t: t, cancel: cancel}
	for range 4 {
		c := newCaller(t, ns, client)
		l.wg.Go(func() {
			for tick := time.NewTicker(pace); ctx.Err() == nil; <-tick.C {
				a, err := c.do("GET", "http://"+service+"/")
				l.sent.Add(1)
				if err == nil && a.status == http.StatusOK {
					continue
				}
				l.lost.Add(1)
				l.first.Do(func() {
					if err == nil {
						t.Logf("first loss: status %d, %v, %.200s", a.status, a.header, a.body)
					} else {
						t.Logf("first loss: %v", err)
					}
				})
			}
		})
	}
	t.Cleanup(func() { cancel(); l.wg.Wait() })
	return l
}

// flow waits until so many more requests were answered.
func (l *load) flow(n int64) {
	l.t.Helper()
	for want, deadline := l.sent.Load()+n, time.Now().Add(settle); l.sent.Load() < want; {
		if time.Now().After(deadline) {
			l.t.Fatalf("no %d requests within %v", n, settle)
		}
		time.Sleep(poll)
	}
}

// end ends it; no request may have been lost meanwhile.
func (l *load) end(what string) {
	l.t.Helper()
	l.cancel()
	l.wg.Wait()
	say("%s under load: %d of %d requests lost", what, l.lost.Load(), l.sent.Load())
	if l.lost.Load() > 0 {
		l.t.Errorf("%d of %d requests were lost", l.lost.Load(), l.sent.Load())
	}
}
