package h2

import (
	"bytes"
	"errors"
	"io"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"

	"golang.org/x/net/http2"
	"pgregory.net/rapid"
)

// plan is what one stream of the model does.
type plan struct {
	up, down   int // bytes each way
	write      int // size of a write
	read       int // size of a read
	abortAfter int // bytes the client reads before it resets; -1: never
	quitAfter  int // bytes the server reads before its handler returns; -1: never
}

func drawPlan(t *rapid.T) plan {
	p := plan{
		up:         rapid.IntRange(0, 200<<10).Draw(t, "up"),
		down:       rapid.IntRange(0, 200<<10).Draw(t, "down"),
		write:      rapid.IntRange(100, 70<<10).Draw(t, "write"),
		read:       rapid.IntRange(100, 70<<10).Draw(t, "read"),
		abortAfter: -1, quitAfter: -1,
	}
	switch rapid.IntRange(0, 5).Draw(t, "end") {
	case 0:
		p.abortAfter = rapid.IntRange(0, p.down).Draw(t, "abortAfter")
	case 1:
		p.quitAfter = rapid.IntRange(0, p.up).Draw(t, "quitAfter")
	}
	return p
}

// TestFlowModel runs random exchanges over random windows between two ends of
// ours. What is delivered is what was sent, and when all is quiet no byte of a
// connection's window is lost or invented.
func TestFlowModel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rapid.Check(struct{ testing.TB }{t}, func(rt *rapid.T) { flowModel(rt) })
	})
}

func flowModel(t *rapid.T) {
	config := func(name string) Config {
		c := quiet()
		c.StreamWindow = uint32(rapid.IntRange(minStreamWindow, 100<<10).Draw(t, name+" stream"))
		c.MaxStreamWindow = c.StreamWindow * uint32(rapid.IntRange(1, 4).Draw(t, name+" grows"))
		c.ConnWindow = uint32(rapid.IntRange(initialWindow, 200<<10).Draw(t, name+" conn"))
		c.MaxConnWindow = c.ConnWindow * uint32(rapid.IntRange(1, 2).Draw(t, name+" conn grows"))
		return c
	}
	plans := rapid.SliceOfN(rapid.Custom(drawPlan), 1, 12).Draw(t, "plans")
	a, b := memPair(rapid.IntRange(1<<10, 256<<10).Draw(t, "network"))

	var mu sync.Mutex
	fail := func(what string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		t.Errorf(what, args...)
	}
	// verify reads up to limit bytes (-1: all) and compares them with the pattern.
	verify := func(s *Stream, size, limit int) (int, error) {
		want := &pattern{}
		buf, exp := make([]byte, size), make([]byte, size)
		got := 0
		for limit < 0 || got < limit {
			n, err := s.Read(buf)
			io.ReadFull(want, exp[:n])
			if !bytes.Equal(buf[:n], exp[:n]) {
				fail("stream %d: bytes differ after %d", s.ID(), got)
			}
			got += n
			if err != nil {
				return got, err
			}
		}
		return got, nil
	}

	server := NewServer(b, config("server"), handlerFunc(func(s *Stream) {
		i, _ := strconv.Atoi(s.Head().Path[1:])
		p := plans[i]
		s.WriteHead(&Head{Status: 200}, 0)
		var wg sync.WaitGroup
		wg.Go(func() {
			err := sendPattern(s, p.down, p.write)
			if p.abortAfter < 0 && p.quitAfter < 0 && err != nil {
				fail("server's writes: %v", err)
			}
		})
		n, err := verify(s, p.read, p.quitAfter)
		if p.quitAfter >= 0 {
			s.Close()
		} else if p.abortAfter < 0 && (!errors.Is(err, io.EOF) || n != p.up) {
			fail("server read %d of %d: %v", n, p.up, err)
		}
		wg.Wait()
	}))
	client := NewClient(a, config("client"))
	go client.Serve()
	go server.Serve()

	var wg sync.WaitGroup
	for i, p := range plans {
		s, err := client.Open(request("POST", "/"+strconv.Itoa(i)), 0)
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			defer s.Close()
			var up sync.WaitGroup
			up.Go(func() {
				err := sendPattern(s, p.up, p.write)
				if p.abortAfter < 0 && p.quitAfter < 0 && err != nil {
					fail("client's writes: %v", err)
				}
			})
			n, err := verify(s, p.read, p.abortAfter)
			if p.abortAfter >= 0 {
				s.Reset(http2.ErrCodeCancel)
			} else if p.quitAfter < 0 && (!errors.Is(err, io.EOF) || n != p.down) {
				fail("client read %d of %d: %v", n, p.down, err)
			}
			up.Wait()
		})
	}
	wg.Wait()
	synctest.Wait()

	for _, d := range []struct {
		name     string
		from, to *Conn
	}{{"up", client, server}, {"down", server, client}} {
		d.from.mu.Lock()
		sendWin := d.from.sendWin
		open := len(d.from.streams)
		d.from.mu.Unlock()
		avail, unacked, window := d.to.recvAvail.Load(), d.to.recvUnacked.Load(), d.to.recvWindow.Load()
		if sendWin != avail {
			fail("%s: the sender may send %d, the receiver thinks %d", d.name, sendWin, avail)
		}
		if avail+unacked != window {
			fail("%s: window %d, but %d granted and %d consumed", d.name, window, avail, unacked)
		}
		if open != 0 {
			fail("%s: %d streams left", d.name, open)
		}
	}
	for _, c := range []*Conn{client, server} {
		if c.Err() != nil {
			fail("connection: %v", c.Err())
		}
		c.Close(nil)
		<-c.Done()
	}
	synctest.Wait()
}

// sendPattern writes n bytes of the pattern in writes of size, then ends.
func sendPattern(s *Stream, n, size int) error {
	src := &pattern{}
	buf := make([]byte, size)
	for n > 0 {
		k := min(n, size)
		io.ReadFull(src, buf[:k])
		if _, err := s.Write(buf[:k]); err != nil {
			return err
		}
		n -= k
	}
	return s.CloseWrite()
}
