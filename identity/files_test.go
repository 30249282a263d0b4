package identity

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// volume imitates the way a kubelet updates a mounted secret: files are links
// into ..data, which is a link that one rename swaps.
type volume struct {
	t   *testing.T
	dir string
	n   int
}

func (v *volume) path(name string) string { return filepath.Join(v.dir, name) }

func (v *volume) swap(files map[string][]byte) {
	v.t.Helper()
	v.n++
	check := func(err error) {
		v.t.Helper()
		if err != nil {
			v.t.Fatal(err)
		}
	}
	data := v.path("..gen" + string(rune('a'+v.n)))
	check(os.Mkdir(data, 0o755))
	for name, b := range files {
		check(os.WriteFile(filepath.Join(data, name), b, 0o600))
		if _, err := os.Lstat(v.path(name)); err != nil {
			check(os.Symlink(filepath.Join("..data", name), v.path(name)))
		}
	}
	tmp := v.path("..tmp")
	check(os.Symlink(filepath.Base(data), tmp))
	check(os.Rename(tmp, v.path("..data")))
}

type logBuf struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuf) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuf) count(s string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), s)
}

func pemFiles(t *testing.T, ca *CA, ttl time.Duration) map[string][]byte {
	t.Helper()
	svid, err := ca.Issue("ns", "sa", ttl)
	if err != nil {
		t.Fatal(err)
	}
	chain, key, err := svid.PEM()
	if err != nil {
		t.Fatal(err)
	}
	return map[string][]byte{"cert-chain.pem": chain, "key.pem": key, "root-cert.pem": ca.Bundle().PEM}
}

func TestFilesReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newCA(t, "td")
		vol := &volume{t: t, dir: t.TempDir()}
		first := pemFiles(t, ca, time.Hour)
		vol.swap(first)
		logs := &logBuf{}
		src, err := FromFiles(vol.path("cert-chain.pem"), vol.path("key.pem"), vol.path("root-cert.pem"), nil, slog.New(slog.NewTextHandler(logs, nil)))
		if err != nil {
			t.Fatal(err)
		}
		defer src.Close()
		if b := src.Bundle(); len(b.TrustDomains) != 1 || !b.Trusts("td") || b.Trusts("other") {
			t.Errorf("trust domains %q", b.TrustDomains)
		}
		tick := func() { time.Sleep(2 * pollInterval); synctest.Wait() }

		old, changed := src.SVID(), src.Changed()
		vol.swap(first) // a swap to the same content is no change
		tick()
		if src.SVID() != old || isClosed(changed) {
			t.Fatal("reloaded unchanged content")
		}
		vol.swap(pemFiles(t, ca, 2*time.Hour))
		tick()
		if src.SVID() == old || !isClosed(changed) {
			t.Fatal("did not reload")
		}

		good := src.SVID()
		other := pemFiles(t, ca, time.Hour)
		for name, files := range map[string]map[string][]byte{
			"key of another pair": {"cert-chain.pem": first["cert-chain.pem"], "key.pem": other["key.pem"], "root-cert.pem": first["root-cert.pem"]},
			"empty":               {"cert-chain.pem": nil, "key.pem": nil, "root-cert.pem": nil},
			"no roots":            {"cert-chain.pem": first["cert-chain.pem"], "key.pem": first["key.pem"], "root-cert.pem": []byte("x")},
			"missing key":         {"cert-chain.pem": first["cert-chain.pem"], "root-cert.pem": first["root-cert.pem"]},
			"expired":             pemFiles(t, ca, -time.Second),
		} {
			changed := src.Changed()
			before := logs.count("broken")
			vol.swap(files)
			tick()
			tick()
			if src.SVID() != good || isClosed(changed) {
				t.Fatalf("%s: the last good files did not stay", name)
			}
			if n := logs.count("broken") - before; n != 1 {
				t.Errorf("%s: logged %d times, want once", name, n)
			}
		}
		vol.swap(first)
		tick()
		if src.SVID() == good {
			t.Error("did not recover")
		}
	})
}

func TestFilesBrokenAtStart(t *testing.T) {
	dir := t.TempDir()
	if _, err := FromFiles(dir+"/a", dir+"/b", dir+"/c", nil, nil); err == nil {
		t.Error("started without files")
	}
}
