package telemetry

import (
	"strings"
	"testing"
)

func TestTraceparent(t *testing.T) {
	const good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	tr, ok := ParseTraceparent(good)
	if !ok || !tr.Sampled {
		t.Fatalf("%+v %v", tr, ok)
	}
	tr.Span = tr.Parent
	if got := string(tr.AppendTraceparent(nil)); got != good {
		t.Errorf("written back as %s", got)
	}
	for _, s := range []string{
		"", "00", good[:54], good + "0", good + "-00",
		strings.ToUpper(good), "ff" + good[2:], "0g" + good[2:],
		"00-00000000000000000000000000000000-b7ad6b7169203331-01",
		"00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
		"00_0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
		"01" + good[2:] + "x",
	} {
		if tr, ok := ParseTraceparent(s); ok {
			t.Errorf("%q was taken: %+v", s, tr)
		}
	}
	if _, ok := ParseTraceparent("01" + good[2:] + "-more"); !ok {
		t.Error("a later version was refused")
	}
}

func TestSampling(t *testing.T) {
	const n = 20000
	for percent, want := range map[float64][2]int{0: {0, 0}, 100: {n, n}, 10: {n/10 - 300, n/10 + 300}} {
		s, got := NewSampler(percent), 0
		for range n {
			if s.Place("").Sampled {
				got++
			}
		}
		if got < want[0] || got > want[1] {
			t.Errorf("%v %%: %d of %d", percent, got, n)
		}
	}
	// The caller's decision wins over ours.
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0"
	if tr := NewSampler(0).Place(parent + "1"); !tr.Sampled || tr.Span == tr.Parent || tr.Span == [8]byte{} {
		t.Errorf("%+v", tr)
	}
	if tr := NewSampler(100).Place(parent + "0"); tr.Sampled {
		t.Errorf("%+v", tr)
	}
}

func TestPlaceDoesNotAllocate(t *testing.T) {
	s := NewSampler(50)
	var b [64]byte
	if n := testing.AllocsPerRun(1000, func() {
		tr := s.Place("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
		tr.AppendTraceparent(b[:0])
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzTraceparent(f *testing.F) {
	f.Add("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	f.Add("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what")
	f.Fuzz(func(t *testing.T, s string) {
		tr, ok := ParseTraceparent(s)
		if !ok {
			return
		}
		tr.Span = tr.Parent
		if got := string(tr.AppendTraceparent(nil)); got[3:52] != s[3:52] {
			t.Errorf("%q became %q", s, got)
		}
	})
}
