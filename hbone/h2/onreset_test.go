package h2

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// OnEnd is told of a half close once, while nobody reads, and neither of a reset nor of
// one that was there before.
func TestOnEnd(t *testing.T) {
	for _, tt := range []struct {
		name          string
		before, after func(p *peer)
		off           bool
		told          int32
	}{
		{"half close", nil, func(p *peer) { p.fr.WriteData(1, false, []byte("x")); p.fr.WriteData(1, true, nil) }, false, 1},
		{"reset", nil, func(p *peer) { p.fr.WriteRSTStream(1, 8) }, false, 0},
		{"before", func(p *peer) { p.fr.WriteData(1, true, nil) }, func(*peer) {}, false, 0},
		{"nobody asks any more", nil, func(p *peer) { p.fr.WriteData(1, true, nil) }, true, 0},
	} {
		cfg := quiet()
		cfg.Connect = true
		script(t, true, cfg, func(p *peer) {
			p.greet()
			p.headers(1, false, connectHead...)
			s := <-p.got
			if tt.before != nil {
				tt.before(p)
				synctest.Wait()
			}
			var told atomic.Int32
			s.OnEnd(func() { told.Add(1) })
			if tt.off {
				s.OnEnd(nil)
			}
			tt.after(p)
			synctest.Wait()
			if n := told.Load(); n != tt.told {
				t.Errorf("%s: told %d times", tt.name, n)
			}
		})
	}
}
