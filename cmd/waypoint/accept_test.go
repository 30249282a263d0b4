package main

import (
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"waypoint.dev/waypoint/hbone"
	"waypoint.dev/waypoint/identity"
)

// heldListener tells when it was first asked for a connection.
type heldListener struct {
	asked chan time.Time
	ended chan struct{}
	once  sync.Once
}

func (l *heldListener) Accept() (net.Conn, error) {
	l.asked <- time.Now()
	<-l.ended
	return nil, net.ErrClosed
}

func (l *heldListener) Close() error   { l.once.Do(func() { close(l.ended) }); return nil }
func (l *heldListener) Addr() net.Addr { return &net.TCPAddr{} }

// TestAcceptWaitsForConfiguration: connections wait for the first one, at most
// for holdLimit; ending does not wait for either.
func TestAcceptWaitsForConfiguration(t *testing.T) {
	ca, err := identity.NewCA("cluster.local")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name             string
		publish, closeAt time.Duration // 0: never
		after            time.Duration // -1: no connection is ever taken
	}{
		{"published", time.Second, 0, time.Second},
		{"never published", 0, 0, holdLimit},
		{"ended before", 0, 2 * time.Second, -1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ids := ca.Source("shop", "waypoint", time.Hour)
				defer ids.Close()
				ln := &heldListener{asked: make(chan time.Time, 1), ended: make(chan struct{})}
				in := &instance{configured: make(chan struct{}), closing: make(chan struct{}), ln: ln}
				in.server = hbone.NewServer(hbone.ServerConfig{TLS: ids}, nil)
				began := time.Now()
				in.accepting.Go(in.accept)
				if tt.publish > 0 {
					time.AfterFunc(tt.publish, func() { close(in.configured) })
				}
				time.Sleep(tt.closeAt)
				if tt.closeAt == 0 {
					if got := (<-ln.asked).Sub(began); got != tt.after {
						t.Errorf("accepts after %v, want %v", got, tt.after)
					}
				}
				in.server.Close()
				close(in.closing)
				in.accepting.Wait()
				select {
				case <-ln.ended:
				default:
					t.Error("the listener is open")
				}
				if tt.after < 0 && (len(ln.asked) != 0 || time.Since(began) != tt.closeAt) {
					t.Errorf("%d accepts, ended after %v", len(ln.asked), time.Since(began))
				}
			})
		})
	}
}
