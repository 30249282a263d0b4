package h2

import (
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
)

var errBroken = errors.New("broken")

// breaking takes bytes until it is told to break, and then only some.
type breaking struct {
	net.Conn
	mu    sync.Mutex
	takes int // of the write that breaks; guarded by mu
	on    bool
	n     int64 // Unsent, as a tunnel below has it
}

func (c *breaking) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.on {
		return min(c.takes, len(p)), errBroken
	}
	return c.Conn.Write(p)
}

func (c *breaking) Unsent() int64 { return c.n }

func (c *breaking) breakAfter(takes int) {
	c.mu.Lock()
	c.on, c.takes = true, takes
	c.mu.Unlock()
}

// What a broken connection did not take is known to be unsent; what it may have
// taken is not.
func TestUnsent(t *testing.T) {
	const size = 100
	for _, tt := range []struct {
		name   string
		takes  int // bytes of the write that breaks
		unsent int64
	}{
		{"nothing was taken", 0, 3 * size},
		{"a part of the first frame", 1, 2 * size},
		{"the first frame", frameHeaderLen + size, 2 * size},
		{"all but the last byte", 3*(frameHeaderLen+size) - 1, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b := memPair(1 << 20)
				wire := &breaking{Conn: a}
				client, _ := pair(t, wire, b, Config{Connect: true}, Config{Connect: true}, handlerFunc(func(s *Stream) {
					s.WriteHead(&Head{Status: 200}, 0)
					io.Copy(io.Discard, s)
				}))
				st, err := client.Open(&Head{Method: "CONNECT", Authority: "a:1"}, 0)
				if err != nil {
					t.Fatal(err)
				}
				defer st.Close()
				if _, err := st.ReadHead(); err != nil {
					t.Fatal(err)
				}
				msg := make([]byte, size)
				if _, err := st.Write(msg); err != nil || st.Unsent() != 0 {
					t.Fatalf("%v, %d unsent on a connection that lives", err, st.Unsent())
				}
				synctest.Wait() // nothing else is on its way
				wire.breakAfter(tt.takes)
				for i := range 3 {
					f := More
					if i == 2 {
						f = 0
					}
					st.WriteData(msg, f)
				}
				if _, err := st.Read(msg); err == nil {
					t.Error("the stream did not break")
				}
				if got := st.Unsent(); got != tt.unsent {
					t.Errorf("%d bytes unsent, want %d", got, tt.unsent)
				}
				if st.HeadUnsent() {
					t.Error("the head was sent")
				}
			})
		})
	}
}

// A request's head is unsent if the connection broke before it left, also where
// that connection is a tunnel that broke below.
func TestHeadUnsent(t *testing.T) {
	for _, tt := range []struct {
		name   string
		takes  int
		below  int64 // unsent in the tunnel below
		unsent bool
	}{
		{"not taken", 0, 0, true},
		{"taken in part", 1, 0, true},
		{"taken", 1 << 20, 0, false},
		{"taken and lost below", 1 << 20, 1 << 10, true},
		{"taken, and its end lost below", 1 << 20, 1, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b := memPair(1 << 20)
				wire := &breaking{Conn: a, n: tt.below}
				client, _ := pair(t, wire, b, Config{}, Config{}, handlerFunc(func(s *Stream) { s.WriteHead(&Head{Status: 200}, End) }))
				first, err := client.Open(&Head{Method: "GET", Scheme: "http", Authority: "a", Path: "/"}, End)
				if err != nil {
					t.Fatal(err)
				}
				defer first.Close()
				if _, err := first.ReadHead(); err != nil {
					t.Fatal(err)
				}
				synctest.Wait() // nothing else is on its way
				wire.breakAfter(tt.takes)
				st, err := client.Open(&Head{Method: "POST", Scheme: "http", Authority: "a", Path: "/"}, End)
				if err != nil {
					t.Fatal(err)
				}
				defer st.Close()
				if _, err := st.ReadHead(); err == nil {
					t.Error("the stream did not break")
				}
				if st.HeadUnsent() != tt.unsent || tt.below == 0 && first.HeadUnsent() {
					t.Errorf("unsent: %v, of the one before: %v", st.HeadUnsent(), first.HeadUnsent())
				}
			})
		})
	}
}
