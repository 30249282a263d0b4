package h2

import (
	"errors"
	"net"
	"sync"
	"testing"
	"testing/synctest"

	"golang.org/x/net/http2"
)

// stuck is a connection whose writes wait, from hold on, for what becomes of them, and
// whose next read then gives what the test says.
type stuck struct {
	net.Conn
	mu    sync.Mutex
	held  bool
	write chan error // what the writes come to
	read  func(p []byte) (int, error)
}

func (c *stuck) Write(p []byte) (int, error) {
	c.mu.Lock()
	held := c.held
	c.mu.Unlock()
	if held {
		if err := <-c.write; err != nil {
			return 0, err
		}
	}
	return c.Conn.Write(p)
}

func (c *stuck) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.mu.Lock()
	read := c.read
	c.read = nil
	c.mu.Unlock()
	if read != nil {
		return read(p)
	}
	return n, err
}

// A connection that ends while a flush is under way knows only behind it whether the
// heads of its requests have left.
func TestHeadUnsentAtTheEnd(t *testing.T) {
	below := func([]byte) (int, error) {
		return 0, &ConnError{Code: http2.ErrCodeNo, Reason: "keepalive PING not answered"}
	}
	bad := func(p []byte) (int, error) {
		return copy(p, appendFrameHeader(nil, 0, http2.FrameData, 0, 0)), nil // DATA of no stream
	}
	for _, tt := range []struct {
		name   string
		read   func([]byte) (int, error)
		write  error
		unsent bool
	}{
		{"the tunnel below breaks", below, errBroken, true},
		{"the peer breaks the protocol, and the network breaks", bad, errBroken, true},
		{"the peer breaks the protocol", bad, nil, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b := memPair(1 << 20)
				wire := &stuck{Conn: a, write: make(chan error)}
				client, _ := pair(t, wire, b, Config{}, Config{}, handlerFunc(func(s *Stream) { s.WriteHead(&Head{Status: 200}, End) }))
				head := &Head{Method: "POST", Scheme: "http", Authority: "a", Path: "/"}
				first, err := client.Open(head, End)
				if err != nil {
					t.Fatal(err)
				}
				defer first.Close()
				if _, err := first.ReadHead(); err != nil {
					t.Fatal(err)
				}
				synctest.Wait() // nothing else is on its way
				wire.mu.Lock()
				wire.held = true
				wire.mu.Unlock()
				var wg sync.WaitGroup
				wg.Go(func() {
					if st, err := client.Open(head, End); err == nil {
						st.Close()
					}
				})
				synctest.Wait() // its flush waits
				st, err := client.Open(head, End)
				if err != nil {
					t.Fatal(err)
				}
				defer st.Close()
				wire.mu.Lock()
				wire.read = tt.read
				wire.mu.Unlock()
				b.Write([]byte{0}) // ends the read that waits
				if _, err := st.ReadHead(); err == nil {
					t.Error("the stream did not end")
				}
				unsent := make(chan bool)
				go func() { unsent <- st.HeadUnsent() }()
				synctest.Wait()
				select {
				case <-unsent:
					t.Error("an answer before the flush came to anything")
					unsent = nil
				default:
				}
				wire.write <- tt.write
				if tt.write == nil {
					close(wire.write)
				}
				if unsent != nil && <-unsent != tt.unsent {
					t.Errorf("unsent: %v", !tt.unsent)
				}
				wg.Wait()
				<-client.Done()
				if own := errors.As(client.Err(), new(*ConnError)); own != (tt.name != "the tunnel below breaks") {
					t.Errorf("ended for %#v", client.Err())
				}
			})
		})
	}
}
