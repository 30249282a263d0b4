package h2

import (
	"errors"
	"io"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
)

// TestSendWindow holds writes to the peer's windows: of the stream, of the
// connection, and after SETTINGS made them negative.
func TestSendWindow(t *testing.T) {
	cfg := quiet()
	script(t, false, cfg, func(p *peer) {
		p.greet(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 10})
		s := p.open(request("POST", "/"), 0)
		wrote := make(chan error, 1)
		go func() {
			_, err := s.WriteData([]byte("0123456789abcdefghij"), End)
			wrote <- err
		}()
		want := func(data string, end bool) {
			t.Helper()
			f := wantFrame[*http2.DataFrame](p)
			if string(f.Data()) != data || f.StreamEnded() != end {
				t.Fatalf("DATA %q end %v, want %q %v", f.Data(), f.StreamEnded(), data, end)
			}
		}
		want("0123456789", false)
		p.wantNothing(time.Second)
		p.fr.WriteWindowUpdate(1, 3)
		want("abc", false)
		p.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 4}) // window: -6
		wantFrame[*http2.SettingsFrame](p)
		p.fr.WriteWindowUpdate(1, 6) // 0
		p.wantNothing(time.Second)
		p.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 5}) // 1
		f := p.next()
		if _, ok := f.(*http2.SettingsFrame); ok {
			f = p.next()
		}
		if d, ok := f.(*http2.DataFrame); !ok || string(d.Data()) != "d" {
			t.Fatalf("after a larger setting: %v", f)
		}
		p.fr.WriteWindowUpdate(1, 100)
		f = p.next()
		if _, ok := f.(*http2.SettingsFrame); ok {
			f = p.next()
		}
		if d, ok := f.(*http2.DataFrame); !ok || string(d.Data()) != "efghij" || !d.StreamEnded() {
			t.Fatalf("rest: %v", f)
		}
		if err := <-wrote; err != nil {
			t.Error(err)
		}
	})
}

// TestSendConnWindow shares the connection's window a frame at a time.
func TestSendConnWindow(t *testing.T) {
	script(t, false, quiet(), func(p *peer) {
		p.greet(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})
		done := make(chan error, 3)
		streams := []*Stream{p.open(request("POST", "/"), 0), p.open(request("POST", "/"), 0), p.open(request("POST", "/"), 0)}
		for _, s := range streams {
			go func() {
				_, err := s.WriteData(make([]byte, 64<<10), End)
				done <- err
			}()
		}
		got := map[uint32]int{}
		total := 0
		for total < 3*64<<10 {
			if total == initialWindow {
				synctest.Wait()
			}
			if total >= initialWindow {
				p.fr.WriteWindowUpdate(0, 1000)
			}
			f := wantFrame[*http2.DataFrame](p)
			got[f.StreamID] += len(f.Data())
			total += len(f.Data())
			if total == initialWindow+3*1000 && (got[1] == 0 || got[3] == 0 || got[5] == 0) {
				t.Errorf("a stream starves: %v", got)
			}
		}
		for range streams {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
}

// TestReceiveWindow grants again only what was consumed, both to the stream and
// the connection, and counts padding.
func TestReceiveWindow(t *testing.T) {
	cfg := quiet()
	cfg.ConnWindow, cfg.MaxConnWindow = initialWindow, initialWindow
	cfg.MaxStreamWindow = 64 << 10
	script(t, true, cfg, func(p *peer) {
		p.greet()
		s := p.accept(1, false, postHead...)
		for range 3 {
			p.fr.WriteData(1, false, make([]byte, 16<<10))
		}
		p.wantNothing(time.Minute) // nobody reads
		b := make([]byte, 16<<10)
		if _, err := io.ReadFull(s, b); err != nil {
			t.Fatal(err)
		}
		p.wantNothing(time.Second) // less than half
		if _, err := io.ReadFull(s, b); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			f := wantFrame[*http2.WindowUpdateFrame](p)
			if f.Increment != 32<<10 {
				t.Errorf("%v", f)
			}
		}
		// Padding alone is granted again without a reader.
		p.accept(3, false, postHead...)
		for range 140 {
			p.fr.WriteDataPadded(3, false, []byte("x"), make([]byte, 250))
		}
		got := map[uint32]uint32{}
		for got[0] == 0 || got[3] == 0 {
			f := wantFrame[*http2.WindowUpdateFrame](p)
			got[f.StreamID] += f.Increment
		}
	})
}

// TestConnWindowOfDeadStreams grants the connection what no stream will read.
func TestConnWindowOfDeadStreams(t *testing.T) {
	cfg := quiet()
	cfg.ConnWindow, cfg.MaxConnWindow = initialWindow, initialWindow
	script(t, true, cfg, func(p *peer) {
		p.greet()
		s := p.accept(1, false, postHead...)
		p.fr.WriteData(1, false, make([]byte, 16<<10))
		p.fr.WriteData(1, false, make([]byte, 16<<10))
		synctest.Wait()
		s.Close() // drops 32 KiB
		sum := uint32(0)
		for range 8 {
			p.fr.WriteData(1, false, make([]byte, 10<<10)) // late, ignored
			synctest.Wait()
		}
		p.wantReset(1, http2.ErrCodeCancel)
		for sum < 98304 {
			f := wantFrame[*http2.WindowUpdateFrame](p)
			if f.StreamID != 0 {
				t.Fatalf("%v", f)
			}
			sum += f.Increment
		}
	})
}

// TestConnWindowExceeded is an error of the connection.
func TestConnWindowExceeded(t *testing.T) {
	cfg := quiet()
	cfg.ConnWindow, cfg.MaxConnWindow, cfg.StreamWindow = initialWindow, initialWindow, 1<<20
	script(t, true, cfg, func(p *peer) {
		p.greet()
		p.accept(1, false, postHead...)
		for range 5 {
			p.fr.WriteData(1, false, make([]byte, 16<<10))
		}
		p.wantGoAway(http2.ErrCodeFlowControl)
	})
}

// TestWindowGrows doubles the windows while the reader keeps up within a round
// trip, up to the maximum, and leaves them alone when it does not.
func TestWindowGrows(t *testing.T) {
	for _, slow := range []bool{false, true} {
		cfg := quiet()
		cfg.MaxStreamWindow = 256 << 10
		script(t, true, cfg, func(p *peer) {
			p.greet()
			s := p.accept(1, false, postHead...)
			go io.Copy(io.Discard, struct{ io.Reader }{s})
			left, granted, sent := int64(64<<10), int64(64<<10), int64(0)
			time.Sleep(time.Second) // the clock must not stand at zero
			for sent < 4<<20 {
				if slow {
					time.Sleep(time.Second)
				}
				if left >= 16<<10 {
					p.fr.WriteData(1, false, make([]byte, 16<<10))
					left -= 16 << 10
					sent += 16 << 10
				}
				synctest.Wait()
				for left < 32<<10 {
					if f := skipTo[*http2.WindowUpdateFrame](p); f.StreamID == 1 {
						left += int64(f.Increment)
						granted += int64(f.Increment)
					}
				}
			}
			synctest.Wait()
			s.mu.Lock()
			window := s.window
			s.mu.Unlock()
			if want := map[bool]int64{false: 256 << 10, true: 64 << 10}[slow]; window != want {
				t.Errorf("slow %v: window %d, want %d", slow, window, want)
			}
			if granted-sent > window {
				t.Errorf("granted %d for %d bytes and a window of %d", granted, sent, window)
			}
		})
	}
}

// TestStalledStreams lets a stream flow while many others hold their windows
// full: the connection's window is extended.
func TestStalledStreams(t *testing.T) {
	script(t, true, quiet(), func(p *peer) {
		p.greet()
		conn := int64(1 << 20)
		send := func(id uint32) {
			p.fr.WriteData(id, false, make([]byte, 16<<10))
			conn -= 16 << 10
			synctest.Wait()
			for conn < 64<<10 {
				if f := skipTo[*http2.WindowUpdateFrame](p); f.StreamID == 0 {
					conn += int64(f.Increment)
				}
			}
		}
		for id := uint32(1); id < 199; id += 2 {
			p.accept(id, false, postHead...)
			for range 4 {
				send(id)
			}
		}
		s := p.accept(199, false, postHead...)
		send(199)
		if _, err := io.ReadFull(s, make([]byte, 16<<10)); err != nil {
			t.Fatal(err)
		}
	})
}

// TestSlowPeer fills the write buffer and no more: writes wait, then go on, and
// a deadline ends the wait.
func TestSlowPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runScript(t, false, Config{KeepaliveInterval: -1, KeepaliveTimeout: time.Hour}, 4<<10, func(p *peer) {
			p.greet(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30})
			p.fr.WriteWindowUpdate(0, 1<<30)
			var streams []*Stream
			for range 4 {
				streams = append(streams, p.open(request("POST", "/"), 0))
			}
			done := make(chan int, 4)
			for _, s := range streams {
				go func() {
					n, _ := s.Write(make([]byte, 1<<20))
					done <- n
				}()
			}
			synctest.Wait()
			p.c.mu.Lock()
			n := len(p.c.wbuf)
			p.c.mu.Unlock()
			if n == 0 || n > maxBuffered+maxDataFrame+frameHeaderLen {
				t.Errorf("%d bytes buffered", n)
			}
			streams[0].SetWriteDeadline(time.Now().Add(-1))
			for _, s := range streams[1:] {
				s.SetWriteDeadline(time.Now().Add(time.Second))
			}
			time.Sleep(2 * time.Second)
			// One of them is in the network's write and hears of it later.
			for range 3 {
				if n := <-done; n >= 1<<20 {
					t.Errorf("wrote %d", n)
				}
			}
			if _, err := streams[1].Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("Write past the deadline: %v", err)
			}
			go io.Copy(io.Discard, p.nc)
			<-done
			streams[1].SetWriteDeadline(time.Time{})
			if _, err := streams[1].Write(make([]byte, 1<<20)); err != nil {
				t.Errorf("Write after the stall: %v", err)
			}
		})
	})
}

// TestStalledPeer closes the connection of a peer that does not read.
func TestStalledPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runScript(t, false, Config{KeepaliveInterval: -1}, 4<<10, func(p *peer) {
			p.greet()
			s := p.open(request("POST", "/"), 0)
			start := time.Now()
			if _, err := s.Write(make([]byte, 32<<10)); err == nil {
				_, err = s.Write(make([]byte, 32<<10))
				if err == nil {
					t.Error("wrote to a peer that does not read")
				}
			}
			<-p.c.Done()
			if d := time.Since(start); d < 20*time.Second || d > 31*time.Second {
				t.Errorf("closed after %v", d)
			}
		})
	})
}
