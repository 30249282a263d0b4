package http2

import (
	"io"
	"net"
	"testing"

	"go.uber.org/goleak"

	"waypoint.dev/waypoint/hbone/h2"
	"waypoint.dev/waypoint/proxy/codec"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pair returns the two ends of a loopback connection.
func pair(t testing.TB) (a, b net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if a, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if b, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	return a, b
}

// start connects a ClientConn with a ServerConn.
func start(t testing.TB, h func(codec.Server)) (*ClientConn, *ServerConn) {
	t.Helper()
	a, b := pair(t)
	s := NewServerConn(b, h2.Config{}, h)
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = s.Serve()
	}()
	c := NewClientConn(a, h2.Config{}, nil)
	t.Cleanup(func() {
		_ = c.Close()
		_ = s.Close()
		<-c.Done()
		<-served
	})
	return c, s
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func readAll(t testing.TB, r io.Reader) string {
	t.Helper()
	b, err := io.ReadAll(r)
	must(t, err)
	return string(b)
}
