package session

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"waypoint.dev/waypoint/internal/attrs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	secretA = bytes.Repeat([]byte{1}, 32)
	secretB = bytes.Repeat([]byte{2}, 32)
	start   = time.Unix(1_700_000_000, 0)
)

func keeper(t testing.TB, secrets ...[]byte) *Keeper {
	t.Helper()
	k, err := NewKeeper(secrets...)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestToken(t *testing.T) {
	k := keeper(t, secretA)
	s := &Spec{Name: "sid", Scope: "shop/r/0", Absolute: time.Hour, Idle: time.Minute}
	tok := New("cart|80", "10.0.0.1:8080", start)
	text := string(k.Seal(nil, s, tok))
	for name, tc := range map[string]struct {
		k    *Keeper
		s    *Spec
		text string
		at   time.Duration
		want error
	}{
		"good":              {k, s, text, 59 * time.Second, nil},
		"idle":              {k, s, text, time.Minute, ErrExpired},
		"no idle timeout":   {k, &Spec{Scope: s.Scope, Absolute: time.Hour}, text, 59 * time.Minute, nil},
		"absolute":          {k, &Spec{Scope: s.Scope, Absolute: time.Hour}, text, time.Hour, ErrExpired},
		"never":             {k, &Spec{Scope: s.Scope}, text, 1000 * time.Hour, nil},
		"another rule":      {k, &Spec{Scope: "shop/r/1"}, text, 0, ErrForged},
		"another key":       {keeper(t, secretB), s, text, 0, ErrForged},
		"rotated key":       {keeper(t, secretB, secretA), s, text, 0, nil},
		"empty":             {k, s, "", 0, ErrForged},
		"short":             {k, s, text[1:], 0, ErrForged},
		"long":              {k, s, text + "A", 0, ErrForged},
		"other alphabet":    {k, s, "+" + text[1:], 0, ErrForged},
		"plain endpoint":    {k, s, "10.0.0.1:8080", 0, ErrForged},
		"another last byte": {k, s, text[:len(text)-4] + flip(text[len(text)-4:]), 0, ErrForged},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := tc.k.Open(tc.s, tc.text, start.Add(tc.at))
			if !errors.Is(err, tc.want) {
				t.Fatalf("err %v, want %v", err, tc.want)
			}
			if err == nil && (got != tok || !got.Of("cart|80", "10.0.0.1:8080") || got.Of("cart|80", "10.0.0.2:8080") || got.Of("web|80", "10.0.0.1:8080")) {
				t.Errorf("token %+v", got)
			}
		})
	}
	if again := string(k.Seal(nil, s, tok)); again == text {
		t.Error("two tokens of one session are equal: the nonce is not random")
	}
}

func flip(s string) string {
	if strings.HasPrefix(s, "A") {
		return "B" + s[1:]
	}
	return "A" + s[1:]
}

func TestRenew(t *testing.T) {
	k := keeper(t, secretA)
	s := &Spec{Scope: "x", Absolute: time.Hour, Idle: time.Minute}
	tok := New("b", "e", start)
	if s.Renew(tok, start.Add(14*time.Second)) || !s.Renew(tok, start.Add(15*time.Second)) || (&Spec{}).Renew(tok, start.Add(time.Hour)) {
		t.Error("renewed at the wrong time")
	}
	// A session that is used goes on until its absolute end, and no longer.
	for at := time.Duration(0); at < time.Hour; at += 30 * time.Second {
		got, err := k.Open(s, string(k.Seal(nil, s, tok)), start.Add(at))
		if err != nil || got.Started != start.Unix() {
			t.Fatal(at, err)
		}
		tok = got.Again(start.Add(at))
	}
	if _, err := k.Open(s, string(k.Seal(nil, s, tok)), start.Add(time.Hour)); !errors.Is(err, ErrExpired) {
		t.Error("outlives its absolute timeout", err)
	}
}

func TestFind(t *testing.T) {
	cookie, header := &Spec{Name: "sid"}, &Spec{Name: "x-session", Header: true}
	for _, tc := range []struct {
		s    *Spec
		h    []attrs.Field
		want string
	}{
		{cookie, nil, ""},
		{cookie, []attrs.Field{{Name: "cookie", Value: "a=b; sid=tok; c"}}, "tok"},
		{cookie, []attrs.Field{{Name: "cookie", Value: "xsid=no"}, {Name: "cookie", Value: `sid="tok"`}}, "tok"},
		{cookie, []attrs.Field{{Name: "cookie", Value: "sid=1;sid=2"}}, "1"},
		{cookie, []attrs.Field{{Name: "cookie", Value: "sid; sid=\""}}, "\""},
		{cookie, []attrs.Field{{Name: "sid", Value: "no"}}, ""},
		{header, []attrs.Field{{Name: "cookie", Value: "x-session=no"}, {Name: "x-session", Value: "tok"}}, "tok"},
	} {
		if got := tc.s.Find(tc.h); got != tc.want {
			t.Errorf("%v: %q, want %q", tc.h, got, tc.want)
		}
	}
}

func TestAppendCookie(t *testing.T) {
	for want, s := range map[string]*Spec{
		"sid=T; Path=/; HttpOnly; SameSite=Lax":               {Name: "sid", Absolute: time.Hour},
		"sid=T; Path=/a; Max-Age=2; HttpOnly; SameSite=Lax":   {Name: "sid", Path: "/a", Absolute: 1500 * time.Millisecond, Permanent: true},
		"other=T; Path=/; HttpOnly; SameSite=Lax":             {Name: "other", Permanent: true},
		"x=T; Path=/cart/v2; HttpOnly; SameSite=Lax":          {Name: "x", Path: "/cart/v2", Idle: time.Second},
		"sid=T; Path=/; Max-Age=3600; HttpOnly; SameSite=Lax": {Name: "sid", Absolute: time.Hour, Permanent: true},
	} {
		if got := string(s.AppendCookie(nil, []byte("T"))); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestSecrets(t *testing.T) {
	if _, err := NewKeeper(); err == nil {
		t.Error("no secret is enough")
	}
	if _, err := NewKeeper(secretA, []byte("short")); err == nil {
		t.Error("a short secret is enough")
	}
}

func FuzzOpen(f *testing.F) {
	k := keeper(f, secretA)
	s := &Spec{Name: "sid", Scope: "shop/r/0"}
	f.Add(string(k.Seal(nil, s, New("b", "e", start))))
	f.Add("")
	f.Add(strings.Repeat("A", textBytes))
	other := &Spec{Name: "sid", Scope: "shop/r/1"}
	f.Fuzz(func(t *testing.T, text string) {
		if _, err := k.Open(other, text, start); err == nil {
			t.Error("opened for a rule that made no token")
		}
		if tok, err := k.Open(s, text, start); err == nil && tok != New("b", "e", start) {
			t.Errorf("opened as %+v", tok)
		}
		s.Find([]attrs.Field{{Name: "cookie", Value: text}})
	})
}

func BenchmarkOpen(b *testing.B) {
	k := keeper(b, secretA)
	s := &Spec{Name: "sid", Scope: "shop/r/0"}
	text := string(k.Seal(nil, s, New("cart|80", "10.0.0.1:8080", start)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := k.Open(s, text, start); err != nil {
			b.Fatal(err)
		}
	}
}
