package codec

import (
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The word-wise scan agrees with the rule octet by octet.
func TestValueLen(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "b")
		if rapid.Bool().Draw(t, "mostly text") {
			for i := range b {
				if i%13 != 0 {
					b[i] = b[i]&0x3f + 0x30
				}
			}
		}
		want := 0
		for want < len(b) && (b[want] == '\t' || b[want] >= ' ' && b[want] != 0x7f) {
			want++
		}
		if got := ValueLen(b); got != want || ValidValue(string(b)) != (want == len(b)) {
			t.Fatalf("%q: %d, want %d", b, got, want)
		}
	})
}

func TestAuthority(t *testing.T) {
	for s, want := range map[string]bool{
		"a": true, "a:1": true, "a.b-c_d": true, "1.2.3.4:65535": true, "[::1]": true, "[::1]:80": true, "a%41": true, "*": true,
		"": false, ":": false, ":80": false, "a:": false, "a:b": false, "a:65536": false, "a:000080": false, "a:80:80": false, "::1": false,
		"[": false, "[]": false, "[:]": false, "[::1": false, "[::1]x": false, "[::1]:": false, "[::g]": false, "u@a": false, "a b": false, "a/b": false, "a%4": false, "a%": false, "a%gg": false, "a\xff": false,
	} {
		if got := ValidAuthority(s); got != want {
			t.Errorf("%q: %v", s, got)
		}
	}
}

func TestErrorMatches(t *testing.T) {
	for kind, sentinel := range map[Kind]error{Refused: ErrRefused, Timeout: ErrTimeout, Protocol: ErrProtocol, ConnClosed: ErrConnClosed} {
		for other := Refused; other <= Aborted; other++ {
			var err error = &Error{Kind: other, Err: io.EOF}
			if errors.Is(err, sentinel) != (other == kind) {
				t.Errorf("%v against %v", err, sentinel)
			}
			if KindOf(err) != other || !errors.Is(err, io.EOF) {
				t.Errorf("%v: kind or cause lost", err)
			}
		}
	}
	if !errors.Is(&Error{Kind: Timeout}, os.ErrDeadlineExceeded) || KindOf(io.EOF) != 0 {
		t.Error("a deadline is not one")
	}
}

func TestMisspelled(t *testing.T) {
	for _, m := range []string{"get", "Get", "gET", "delete", "oPTIONS", "connect", "patch"} {
		if !Misspelled(m) {
			t.Errorf("%s passes", m)
		}
	}
	for _, m := range []string{"", "GET", "DELETE", "CONNECT", "X", "x", "getAll", "PROPFIND", "propfind", "M-SEARCH", strings.Repeat("a", 100)} {
		if Misspelled(m) {
			t.Errorf("%s is refused", m)
		}
	}
	if n := testing.AllocsPerRun(100, func() { Misspelled("get") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
