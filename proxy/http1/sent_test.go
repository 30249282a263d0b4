package http1

import (
	"syscall"
	"testing"

	"waypoint.dev/waypoint/proxy/codec"
)

// breaks takes some octets and then fails, and like a tunnel it may say that not
// all it took has left.
type breaks struct {
	script
	takes, unsent int
}

func (b *breaks) Write(p []byte) (int, error) {
	n := min(len(p), b.takes)
	b.takes -= n
	if n < len(p) {
		return n, syscall.ECONNRESET
	}
	return n, nil
}

func (b *breaks) Unsent() int64 { return int64(b.unsent) }

// Nothing was sent as long as the head has not left whole.
func TestSent(t *testing.T) {
	const head = int64(len("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\n"))
	for _, tt := range []struct {
		name          string
		takes, unsent int
		want          int64
	}{
		{"nothing", 0, 0, 0},
		{"a part of the head", int(head) - 1, 0, 0},
		{"the head", int(head), 0, head},
		{"the head and a part of the body", int(head) + 2, 0, head + 2},
		{"all, of which the body has not left", int(head) + 5, 5, head},
		{"all, of which the body and the end of the head have not left", int(head) + 5, 6, 0},
		{"all, of which nothing has left", int(head) + 5, int(head) + 5, 0},
		{"all", int(head) + 5, 0, head + 5},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cc := NewClientConn(&breaks{takes: tt.takes, unsent: tt.unsent}, ClientOptions{})
			x := cc.Client()
			must(t, x.WriteHead(&codec.RequestHead{Method: "POST", Target: "/", Authority: "a", Length: 5}, codec.More))
			err := x.WriteBody([]byte("hello"), codec.End)
			if (err == nil) != (tt.takes == int(head)+5) {
				t.Errorf("write: %v", err)
			}
			if n := x.Sent(); n != tt.want {
				t.Errorf("%d octets sent, want %d", n, tt.want)
			}
			x.Abort(nil)
			x.Release()
		})
	}
}
