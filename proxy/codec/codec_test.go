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
		// Next to what is allowed: hexadecimal digits, dots and colons of an address, and nothing but a colon before a port.
		"a%fF": true, "a%09": true, "a%4g": false, "a%g4": false, "a%4:": false, "a%/0": false, "a%:0": false, "a%@0": false, "a%`0": false,
		"[fe80::1.2.3.4]": true, "[::aF09]": true, "[:::]": true, "[::]": true, "[::/]": false, "[::@]": false, "[::`]": false, "[1.2/3]": false, "[g::1]": false, "[[:1]": false,
		"a/80": false, "u@80": false, "a;80": true, "[::1]80": false, "[::1];80": false, "a:/": false, "a:8;": false, "a:99999": false, "a:123456": false, "a:0": true, "a:9": true,
	} {
		if got := ValidAuthority(s); got != want {
			t.Errorf("%q: %v", s, got)
		}
	}
}

func TestTokensAndTargets(t *testing.T) {
	for c := range 256 {
		s := string([]byte{'a', byte(c), 'b'})
		letter := 'a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9'
		if want := letter || strings.IndexByte("!#$%&'*+-.^_`|~", byte(c)) >= 0; ValidToken(s) != want {
			t.Errorf("token with %#x: %v", c, !want)
		}
		if want := c > ' ' && c < 0x7f; ValidTarget(s) != want {
			t.Errorf("target with %#x: %v", c, !want)
		}
		if want := c >= ' ' && c != 0x7f || c == '\t'; ValidValue(s) != want || ValidValue("12345678"+s+"12345678") != want {
			t.Errorf("value with %#x: %v", c, !want)
		}
	}
	if ValidToken("") || ValidTarget("") || !ValidValue("") {
		t.Error("the empty string")
	}
}

// Where the scan by eight stops, the octets before and behind count still.
func TestValueLenPlaces(t *testing.T) {
	for n := range 40 {
		for at := range n {
			for _, c := range []byte{0, '\n', 0x1f, 0x7f} {
				b := []byte(strings.Repeat("\t \x80~", 10)[:n])
				b[at] = c
				if got := ValueLen(b); got != at {
					t.Fatalf("%q: %d, want %d", b, got, at)
				}
			}
		}
		if b := []byte(strings.Repeat("\t \x80~", 10)[:n]); ValueLen(b) != n {
			t.Fatalf("%q: %d", b, ValueLen(b))
		}
	}
}

func TestForbiddenTrailer(t *testing.T) {
	for _, name := range []string{"transfer-encoding", "content-length", "host", "authorization", "cookie", "set-cookie", "te", "connection", "upgrade", "content-type", "range", "age", "expect"} {
		if !ForbiddenTrailer(name) {
			t.Errorf("%s is a trailer", name)
		}
	}
	for _, name := range []string{"grpc-status", "grpc-message", "x-checksum", "digest", "server-timing", "etag"} {
		if ForbiddenTrailer(name) {
			t.Errorf("%s is no trailer", name)
		}
	}
}

func TestErrorText(t *testing.T) {
	for _, tt := range []struct {
		err  *Error
		want string
	}{
		{&Error{Kind: Reset, Remote: true, Code: 8}, "reset (remote, code 8)"},
		{&Error{Kind: Timeout, Err: io.EOF}, "timeout (local, code 0): EOF"},
		{&Error{Kind: 99}, "unknown (local, code 0)"},
	} {
		if got := tt.err.Error(); got != tt.want {
			t.Errorf("%q, want %q", got, tt.want)
		}
		if tt.err.Timeout() != (tt.err.Kind == Timeout) || errors.Is(tt.err, io.ErrClosedPipe) {
			t.Errorf("%v is a timeout %v", tt.err, tt.err.Timeout())
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
	for _, m := range []string{"get", "Get", "gET", "delete", "oPTIONS", "connect", "patch", "put", "trace", "head", "poST"} {
		if !Misspelled(m) {
			t.Errorf("%s passes", m)
		}
	}
	for _, m := range []string{"", "GET", "DELETE", "CONNECT", "X", "x", "getAll", "PROPFIND", "propfind", "M-SEARCH", "g{t", "g`t", strings.Repeat("a", 100)} {
		if Misspelled(m) {
			t.Errorf("%s is refused", m)
		}
	}
	if n := testing.AllocsPerRun(100, func() { Misspelled("get") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
