package http1

import (
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// readReady reports, without blocking, whether a read of c would return at once.
func readReady(c any) bool {
	switch c := c.(type) {
	case interface{ Below() any }: // TLS on another connection
		return readReady(c.Below())
	case interface{ Readable() bool }:
		return c.Readable()
	case syscall.Conn:
		rc, err := c.SyscallConn()
		if err != nil {
			return false // TLS: its socket tells nothing
		}
		ready := true
		err = rc.Read(func(fd uintptr) bool {
			var b [1]byte
			_, _, e := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
			ready = e != unix.EAGAIN && e != unix.EINTR
			return true // ask once, never wait
		})
		return ready || err != nil
	}
	return false
}

// maxIdleHint bounds what a keep-alive field may say: beyond it the number means
// nothing that a pool would wait for.
const maxIdleHint = 24 * time.Hour

// idleHint reads timeout, in seconds, from the value of a keep-alive field (RFC
// 2068 section 19.7.1.1; "timeout=5, max=100" as Apache and Node.js write it). 0 if
// there is none or it is no number.
func idleHint(v string) time.Duration {
	for v != "" {
		var p string
		p, v = nextToken(v)
		name, n, ok := strings.Cut(p, "=")
		if !ok || !equalFold(trimOWS(name), "timeout") {
			continue
		}
		if secs, err := parseLength(trimOWS(n)); err == nil {
			return time.Duration(min(secs, int64(maxIdleHint/time.Second))) * time.Second
		}
	}
	return 0
}
