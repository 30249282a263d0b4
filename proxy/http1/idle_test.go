package http1

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"waypoint.dev/waypoint/internal/buf"
	"waypoint.dev/waypoint/proxy/codec"
)

func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, hide := range []bool{false, true} {
			a, b := newPipe()
			var c Conn = a
			if hide {
				c = bare{a}
			}
			s := NewServerConn(c, ServerOptions{})
			done := make(chan error, 1)
			go func() {
				for {
					x, err := s.Next()
					if err != nil {
						done <- err
						return
					}
					x.WriteHead(&codec.ResponseHead{Status: 204}, codec.End)
				}
			}()
			b.Write([]byte(get()))
			synctest.Wait()
			if !s.Idle() {
				t.Error("not idle behind the first exchange")
			}
			if n := buf.Outstanding(); n != 0 {
				t.Errorf("an idle connection owns %d buffers", n)
			}
			s.SetDraining()
			if err := <-done; err != io.EOF {
				t.Errorf("idle: %v", err)
			}
			s.Close()
		}
		// A request that arrived first is served, and told to close.
		a, b := newPipe()
		s := NewServerConn(a, ServerOptions{})
		b.Write([]byte(get()))
		x, err := s.Next()
		must(t, err)
		s.SetDraining()
		must(t, x.WriteHead(&codec.ResponseHead{Status: 204}, codec.End))
		if _, err := s.Next(); err != io.EOF {
			t.Errorf("after the last: %v", err)
		}
		p := make([]byte, 100)
		n, _ := b.Read(p)
		if want := "HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n"; string(p[:n]) != want {
			t.Errorf("%q", p[:n])
		}
		s.Close()
	})
}

func TestDrainGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newPipe()
		s := NewServerConn(a, ServerOptions{})
		done := make(chan error)
		go func() {
			for {
				x, err := s.Next()
				if err != nil {
					done <- err
					return
				}
				x.WriteHead(&codec.ResponseHead{Status: 204}, codec.End)
			}
		}()
		b.Write([]byte(get()))
		synctest.Wait()
		p := make([]byte, 200)
		b.Read(p)
		s.SetDraining()
		time.Sleep(DrainGrace - time.Millisecond)
		// It crosses the drain: served, and told that it was the last.
		b.Write([]byte(get()))
		if err := <-done; err != io.EOF {
			t.Error(err)
		}
		n, _ := b.Read(p)
		if want := "HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n"; string(p[:n]) != want {
			t.Errorf("%q", p[:n])
		}
		s.Close()
	})
}

// A drain that begins between a response's head and its end leaves a client that
// does not know: it has the grace, too.
func TestDrainGraceBehindAHead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newPipe()
		s := NewServerConn(a, ServerOptions{})
		done := make(chan error)
		go func() {
			for n := 0; ; n++ {
				x, err := s.Next()
				if err != nil {
					done <- err
					return
				}
				x.WriteHead(&codec.ResponseHead{Status: 204}, codec.End)
				if n == 0 {
					s.SetDraining()
				}
			}
		}()
		p := make([]byte, 200)
		b.Write([]byte(get()))
		n, _ := b.Read(p)
		if strings.Contains(string(p[:n]), "close") {
			t.Fatalf("%q: told already", p[:n])
		}
		time.Sleep(DrainGrace - time.Millisecond)
		b.Write([]byte(get()))
		if err := <-done; err != io.EOF {
			t.Error(err)
		}
		n, _ = b.Read(p)
		if !strings.Contains(string(p[:n]), "connection: close") {
			t.Errorf("%q", p[:n])
		}
		s.Close()
	})
}

func TestTimeouts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := newPipe()
		s := NewServerConn(a, ServerOptions{IdleTimeout: time.Hour, HeadTimeout: time.Second})
		start := time.Now()
		if _, err := s.Next(); err != io.EOF || time.Since(start) != time.Hour {
			t.Errorf("idle: %v after %v", err, time.Since(start))
		}
		s.Close()
		a, b := newPipe()
		s = NewServerConn(a, ServerOptions{IdleTimeout: time.Hour, HeadTimeout: time.Second})
		b.Write([]byte("GET / HT"))
		_, err := s.Next()
		var pe *ProtocolError
		if !errors.As(err, &pe) || pe.Status != 408 {
			t.Errorf("head: %v", err)
		}
		must(t, s.WriteError(pe.Status, ""))
		s.Close()

		a, _ = newPipe()
		cc := NewClientConn(a, ClientOptions{})
		x := cc.Client()
		must(t, x.WriteHead(&codec.RequestHead{Method: "GET", Target: "/", Authority: "a"}, codec.End))
		x.SetReadDeadline(time.Now().Add(time.Second))
		if _, err := x.ReadHead(); codec.KindOf(err) != codec.Timeout {
			t.Errorf("response: %v", err)
		}
		x.Abort(nil)
		x.Release()
	})
}
