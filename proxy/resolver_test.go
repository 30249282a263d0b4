package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// zone answers lookups; each takes a second.
type zone struct {
	mu    sync.Mutex
	addrs []netip.Addr
	err   error
	asked int
}

func (z *zone) lookup(ctx context.Context, _ string) ([]netip.Addr, error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.asked++
	select {
	case <-time.After(time.Second):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return z.addrs, z.err
}

func (z *zone) set(err error, addrs ...string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.addrs, z.err = nil, err
	for _, a := range addrs {
		z.addrs = append(z.addrs, netip.MustParseAddr(a))
	}
}

func TestNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		z := new(zone)
		z.set(nil, "192.0.2.1")
		n := NewNames(z.lookup)
		want := func(addr string, wait time.Duration, asked int) {
			t.Helper()
			start := time.Now()
			got, err := n.get(ctx, "db")
			if err != nil || len(got) != 1 || got[0].String() != addr || time.Since(start) != wait {
				t.Errorf("%v %v after %v, want %s after %v", got, err, time.Since(start), addr, wait)
			}
			synctest.Wait()
			time.Sleep(2 * time.Second) // a lookup behind the scenes ends
			synctest.Wait()
			if z.asked != asked {
				t.Errorf("asked %d times, want %d", z.asked, asked)
			}
		}
		// Many that want an unknown name share one lookup.
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				if got, err := n.get(ctx, "db"); err != nil || len(got) != 1 {
					t.Error(got, err)
				}
			})
		}
		wg.Wait()
		want("192.0.2.1", 0, 1)
		z.set(nil, "192.0.2.2")
		time.Sleep(resolveEvery)
		want("192.0.2.1", 0, 2) // the old answer serves while the new one is fetched
		want("192.0.2.2", 0, 2)
		// The last good answer outlives failures and empty answers.
		for i, err := range []error{errors.New("SERVFAIL"), nil} {
			z.set(err)
			time.Sleep(time.Hour)
			want("192.0.2.2", 0, 3+i)
		}
		n.Close()
		if _, err := n.get(context.Background(), "db"); err == nil {
			t.Error("a closed cache answers")
		}
	})
}

func TestNameUnknown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		z := new(zone)
		z.set(errors.New("NXDOMAIN"))
		n := NewNames(z.lookup)
		for i := range 2 {
			if _, err := n.get(ctx, "db"); err == nil || err.Error() != "NXDOMAIN" || z.asked != i+1 {
				t.Errorf("%v, asked %d times", err, z.asked)
			}
		}
		z.set(nil)
		if _, err := n.get(ctx, "db"); !errors.Is(err, errNoAddress) {
			t.Error(err)
		}
		short, stop := context.WithTimeout(ctx, time.Millisecond)
		defer stop()
		if _, err := n.get(short, "db"); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		n.Close()
	})
}

func TestNamesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := NewNames(func(context.Context, string) ([]netip.Addr, error) {
			return []netip.Addr{netip.IPv6Loopback()}, nil
		})
		for i := range maxNames + 10 {
			if _, err := n.get(t.Context(), fmt.Sprint(i)); err != nil {
				t.Fatal(err)
			}
			if i < maxNames {
				time.Sleep(time.Millisecond)
				n.get(t.Context(), "kept")
			}
			synctest.Wait()
		}
		if len(n.entries) > maxNames || n.entries["kept"] == nil || n.entries["1"] != nil {
			t.Errorf("%d names, want %d and the oldest gone", len(n.entries), maxNames)
		}
		n.Close()
	})
}
