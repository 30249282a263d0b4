package buf

import (
	"testing"

	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestSizes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 2*MaxPooled).Draw(t, "n")
		b := Take(n)
		if len(b.B) < max(n, MinPooled) || len(b.B) != cap(b.B) {
			t.Fatalf("Take(%d): %d of %d", n, len(b.B), cap(b.B))
		}
		if n > MinPooled && n <= MaxPooled && len(b.B) >= 2*n {
			t.Fatalf("Take(%d) wastes %d", n, len(b.B)-n)
		}
		b.Release()
	})
}

func TestGrowKeeps(t *testing.T) {
	b := Take(512)
	copy(b.B, "abc")
	b = Grow(b, 3, 5000)
	if string(b.B[:3]) != "abc" || len(b.B) != 8192 {
		t.Errorf("%q, %d", b.B[:3], len(b.B))
	}
	b.Release()
}

func TestPoison(t *testing.T) {
	SetPoison(true)
	defer SetPoison(false)
	before := Outstanding()
	b := Take(600)
	if Outstanding() != before+1 {
		t.Error("a taken buffer is not counted")
	}
	p := b.B
	b.Release()
	for _, c := range p {
		if c != Poison {
			t.Fatal("released bytes survive")
		}
	}
	if Outstanding() != before {
		t.Error("a released buffer is counted")
	}
	defer func() {
		if recover() == nil {
			t.Error("a second release goes unnoticed")
		}
	}()
	b.Release()
}

// What was never taken may be released: error paths need not ask.
func TestReleaseOfNothing(t *testing.T) {
	before := Outstanding()
	var b *Buf
	b.Release()
	new(Buf).Release()
	if n := Outstanding(); n != before {
		t.Errorf("%d buffers outstanding, had %d", n, before)
	}
}

// Outside of tests a second release must not hand one buffer to two owners.
func TestSecondReleaseIgnored(t *testing.T) {
	b := Take(512)
	b.Release()
	b.Release()
	x, y := Take(512), Take(512)
	if x == y {
		t.Error("one buffer, two owners")
	}
	x.Release()
	y.Release()
}

func TestAllocs(t *testing.T) {
	Take(4096).Release()
	if n := testing.AllocsPerRun(100, func() { Take(4096).Release() }); n > 0.5 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkTakeRelease(b *testing.B) {
	for b.Loop() {
		Take(4096).Release()
	}
}
