//go:build !race

package session

import "testing"

func TestAllocations(t *testing.T) {
	k := keeper(t, secretA)
	s := &Spec{Name: "sid", Scope: "shop/r/0"}
	tok := New("cart|80", "10.0.0.1:8080", start)
	buf := make([]byte, 0, 256)
	text := string(k.Seal(nil, s, tok))
	if n := testing.AllocsPerRun(100, func() { buf = k.Seal(buf[:0], s, tok) }); n > 0 {
		t.Errorf("Seal allocates %v times", n)
	}
	if n := testing.AllocsPerRun(100, func() { _, _ = k.Open(s, text, start) }); n > 0 {
		t.Errorf("Open allocates %v times", n)
	}
}
