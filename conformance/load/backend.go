package load

import (
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"sync"

	"waypoint.dev/waypoint/hbone"
	"waypoint.dev/waypoint/identity"
)

// Backend answers HTTP/1.1 GETs right inside the tunnels it takes, as cheaply as
// can be: GET /N answers N bytes. It takes HTTP/2 and gRPC too, less cheaply.
type Backend struct {
	srv *hbone.Server
	wg  sync.WaitGroup
}

// NewBackend listens for HBONE on addr.
func NewBackend(addr netip.AddrPort, src identity.Source) (*Backend, error) {
	ln, err := net.Listen("tcp", addr.String())
	if err != nil {
		return nil, err
	}
	b := &Backend{}
	b.srv = hbone.NewServer(hbone.ServerConfig{TLS: src, MaxAge: -1, Log: slog.New(slog.DiscardHandler)}, b)
	b.wg.Go(func() { b.srv.Serve(ln) })
	return b, nil
}

// Close cuts everything.
func (b *Backend) Close() {
	b.srv.Close()
	b.wg.Wait()
}

// ServeTunnel implements hbone.Handler.
func (b *Backend) ServeTunnel(t *hbone.Tunnel) {
	if t.Accept() != nil {
		return
	}
	buf := make([]byte, 4<<10)
	var out []byte
	n := 0
	for {
		if n >= len(preface) && bytes.HasPrefix(buf[:n], preface) {
			b.serve2(t, buf[:n])
			return
		}
		i := bytes.Index(buf[:n], headEnd)
		if i < 0 || n < len(preface) && bytes.HasPrefix(preface, buf[:n]) {
			if n == len(buf) {
				return
			}
			m, err := t.Read(buf[n:])
			n += m
			if m == 0 && err != nil {
				return
			}
			continue
		}
		size := sizeOf(buf[:i])
		n = copy(buf, buf[i+len(headEnd):n])
		out = fmt.Appendf(out[:0], "HTTP/1.1 200 OK\r\ncontent-length: %d\r\ncontent-type: application/octet-stream\r\n\r\n", size)
		for first := true; first || size > 0; first = false {
			m := min(size, 64<<10)
			out = append(out, zeros[:m]...)
			if _, err := t.Write(out); err != nil {
				return
			}
			out, size = out[:0], size-m
		}
	}
}

var zeros = bytes.Repeat([]byte{'x'}, 64<<10)

// sizeOf reads N of "GET /N ".
func sizeOf(head []byte) int {
	_, rest, _ := bytes.Cut(head, []byte(" /"))
	num, _, _ := bytes.Cut(rest, []byte(" "))
	n, err := strconv.Atoi(string(num))
	if err != nil || n < 0 {
		return 0
	}
	return n
}
