package http1

import (
	"syscall"

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
