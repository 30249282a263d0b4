package jwt

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// fakeIssuer answers without a network, so that a bubble's clock can move.
type fakeIssuer struct {
	mu    sync.Mutex
	doc   string        // guarded by mu; empty: fetches fail
	delay time.Duration // guarded by mu
	calls int           // guarded by mu
}

func (f *fakeIssuer) set(doc string) { f.mu.Lock(); f.doc = doc; f.mu.Unlock() }

func (f *fakeIssuer) count() int { f.mu.Lock(); defer f.mu.Unlock(); return f.calls }

func (f *fakeIssuer) Do(r *http.Request) (*http.Response, error) {
	f.mu.Lock()
	doc, delay := f.doc, f.delay
	f.calls++
	f.mu.Unlock()
	select {
	case <-time.After(delay):
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	if doc == "" {
		return nil, errors.New("refused")
	}
	return &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader(doc))}, nil
}

func remote() Provider {
	return Provider{Name: "p", Issuer: "issuer", JWKSURI: "http://issuer.example/jwks"}
}

func buildRemote(t *testing.T, store *KeyStore, p Provider) *Authenticator {
	t.Helper()
	a, err := New(&Config{Providers: []Provider{p}, Require: OptionalAny(p.Name)}, store)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		issuer := &fakeIssuer{doc: jwks(jwkOf(ecKey, "one")), delay: time.Second}
		store := NewKeyStore(issuer, nil)
		defer store.Close()
		a := buildRemote(t, store, remote())
		defer a.Close()
		t1, t2 := sign("ES256", ecKey, "one", good(nil)), sign("RS256", rsaKey, "two", good(nil))

		// The first request waits for the first keys.
		if res := check(t, a, bearer(t1)); res.Status != 0 {
			t.Fatalf("first: %s", res.Body)
		}
		// Keys are replaced: a new key id asks for them at once, but only every
		// ten seconds.
		issuer.set(jwks(jwkOf(rsaKey, "two")))
		if res := check(t, a, bearer(t2)); res.Body != statusText[noMatchingKey] || issuer.count() != 1 {
			t.Errorf("too early: %q after %d fetches", res.Body, issuer.count())
		}
		if res := check(t, a, bearer(t1)); res.Status != 0 || a.providers[0].cache.len() != 1 {
			t.Errorf("cached: %s", res.Body)
		}
		time.Sleep(minInterval)
		if res := check(t, a, bearer(t2)); res.Status != 0 || issuer.count() != 2 {
			t.Errorf("rotated: %q after %d fetches", res.Body, issuer.count())
		}
		// What the old keys had vouched for is gone.
		if res := check(t, a, bearer(t1)); res.Body != statusText[noMatchingKey] {
			t.Errorf("a token of a withdrawn key passed: %d %q", res.Status, res.Body)
		}
		// The background refresh, and the same document, keep set and cache.
		set, n := a.providers[0].src.keys.Load(), issuer.count()
		time.Sleep(defaultRefresh + 2*time.Second)
		if issuer.count() <= n || a.providers[0].src.keys.Load() != set {
			t.Errorf("%d fetches, set changed %v", issuer.count()-n, a.providers[0].src.keys.Load() != set)
		}
		// The issuer fails: the last good keys stay.
		issuer.set("")
		time.Sleep(3 * time.Hour)
		fresh := sign("RS256", rsaKey, "two", good(nil))
		if res := check(t, a, bearer(fresh)); res.Status != 0 {
			t.Errorf("issuer down: %s", res.Body)
		}
		issuer.set("<html>")
		time.Sleep(time.Hour)
		if res := check(t, a, bearer(fresh)); res.Status != 0 {
			t.Errorf("issuer broken: %s", res.Body)
		}
	})
}

func TestFirstFetchFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		issuer := &fakeIssuer{}
		store := NewKeyStore(issuer, nil)
		defer store.Close()
		a := buildRemote(t, store, remote())
		defer a.Close()
		tok := bearer(sign("ES256", ecKey, "one", good(nil)))
		synctest.Wait()
		for range 3 {
			start := time.Now()
			if res := check(t, a, tok); res.Status != 401 || res.Body != "Jwks remote fetch is failed" || time.Since(start) != 0 {
				t.Errorf("%d %q after %v", res.Status, res.Body, time.Since(start))
			}
		}
		// The breaker and the backoff keep the rate down.
		time.Sleep(10 * time.Minute)
		if n := issuer.count(); n > 20 {
			t.Errorf("%d fetches in ten minutes", n)
		}
		issuer.set(jwks(jwkOf(ecKey, "one")))
		time.Sleep(2 * time.Minute)
		if res := check(t, a, tok); res.Status != 0 {
			t.Errorf("recovered: %q", res.Body)
		}
	})
}

func TestSlowFirstFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		issuer := &fakeIssuer{doc: jwks(jwkOf(ecKey, "one")), delay: time.Hour}
		store := NewKeyStore(issuer, nil)
		defer store.Close()
		tok := bearer(sign("ES256", ecKey, "one", good(nil)))
		for timeout, want := range map[time.Duration]time.Duration{2 * time.Second: 2 * time.Second, 0: 5 * time.Second} {
			p := remote()
			p.Timeout = timeout
			a := buildRemote(t, store, p)
			start := time.Now()
			if res := check(t, a, tok); res.Status != 401 || time.Since(start) != want {
				t.Errorf("timeout %v: %d after %v", timeout, res.Status, time.Since(start))
			}
			a.Close()
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		b := buildRemote(t, store, Provider{Name: "x", Issuer: "issuer", JWKSURI: "http://other.example/"})
		defer b.Close()
		var res Result
		start := time.Now()
		if b.Check(ctx, tok, &res); res.Status != 401 || time.Since(start) != 0 {
			t.Errorf("a gone client still waits: %d after %v", res.Status, time.Since(start))
		}
	})
}

func TestSourcesAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		issuer := &fakeIssuer{doc: jwks(jwkOf(ecKey, "one"))}
		store := NewKeyStore(issuer, nil)
		a := buildRemote(t, store, remote())
		synctest.Wait()
		b := buildRemote(t, store, remote())
		a.Close()
		a.Close()
		if res := check(t, b, bearer(sign("ES256", ecKey, "one", good(nil)))); res.Status != 0 || issuer.count() != 1 {
			t.Errorf("%q after %d fetches", res.Body, issuer.count())
		}
		b.Close()
		if len(store.sources) != 0 {
			t.Error("a source outlives its users")
		}
		store.Close()
		c := buildRemote(t, store, remote())
		if res := check(t, c, bearer(sign("ES256", ecKey, "one", good(nil)))); res.Status != 401 {
			t.Errorf("a closed store gave keys: %d", res.Status)
		}
		c.Close()
	})
}

// TestRealServer fetches over HTTP: discovery, sizes, statuses and HMAC keys.
func TestRealServer(t *testing.T) {
	var status atomic.Int32
	status.Store(200)
	var doc atomic.Pointer[[]byte]
	put := func(b []byte) { doc.Store(&b) }
	put([]byte(jwks(jwkOf(ecKey, "one"), jwkOf(hmacKey, "h"))))
	mux := http.NewServeMux()
	srv := httptest.NewServer(mux)
	mux.HandleFunc("/keys", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(int(status.Load()))
		w.Write(*doc.Load())
	})
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, `{"issuer":"`+srv.URL+`","jwks_uri":"`+srv.URL+`/keys"}`)
	})
	client := srv.Client()
	store := NewKeyStore(client, nil)
	defer srv.Close()
	defer store.Close()
	a := buildRemote(t, store, Provider{Name: "p", Issuer: srv.URL})
	defer a.Close()
	mine := good(m{"iss": srv.URL})
	if res := check(t, a, bearer(sign("ES256", ecKey, "one", mine))); res.Status != 0 {
		t.Errorf("discovered: %q", res.Body)
	}
	if res := check(t, a, bearer(sign("HS256", hmacKey, "h", mine))); res.Body != statusText[noMatchingKey] {
		t.Errorf("a fetched HMAC key was used: %q", res.Body)
	}
	src := a.providers[0].src
	for _, bad := range []struct {
		status int
		doc    []byte
	}{{500, []byte(jwks(jwkOf(ecKey, "one")))}, {200, bytes.Repeat([]byte(" "), maxDocument+1)}, {200, []byte(`{"keys":[]}`)}, {200, []byte("x")},
		{200, []byte(`{"keys":[` + strings.Repeat(`{"kty":"oct","k":"AAAA"},`, maxKeys) + `{"kty":"oct","k":"AAAA"}]}`)}} {
		status.Store(int32(bad.status))
		put(bad.doc)
		if _, err := src.fetch(t.Context()); err == nil {
			t.Errorf("status %d, %d bytes: no error", bad.status, len(bad.doc))
		}
	}
	nowhere := &source{id: sourceID{url: srv.URL + "/none", discover: true, timeout: time.Second}, store: store}
	if _, err := nowhere.fetch(t.Context()); err == nil {
		t.Error("discovery at a missing document succeeded")
	}
}
