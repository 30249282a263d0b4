package feed

import (
	"context"
	"fmt"
	"strings"
	"time"

	"waypoint.dev/waypoint/config/istiod"
)

const (
	// A burst is over when nothing came for quiet; a model is built after burst at
	// the latest. Endpoint changes must serve within 200 ms (p99).
	quiet = 10 * time.Millisecond
	burst = 50 * time.Millisecond
	// Endpoints, extensions and secrets of something new are waited for so long;
	// a change of policy beside them must not wait longer.
	warm = 500 * time.Millisecond
	// The first model waits longer: nothing serves yet.
	firstWarm = 5 * time.Second
	// Secrets that were not given are asked for again. istiod is silent when a service
	// account may read Secrets that it was refused before, and remembers the refusal
	// for a minute (pilot/pkg/credentials/kube: cacheTTL): a little longer is enough.
	again = 65 * time.Second
)

// Ready says whether clusters and listeners each came at least once.
func (f *Feed) Ready() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	var missing []string
	for _, t := range []string{istiod.ClusterType, istiod.ListenerType} {
		if !f.applied[t] {
			missing = append(missing, t[strings.LastIndexByte(t, '.')+1:])
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("no %s from the control plane yet", strings.Join(missing, " and no "))
	}
	return nil
}

// warming reports whether something new is still awaited.
func (f *Feed) warming() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, n := range f.pending {
		if n > 0 {
			return true
		}
	}
	return !f.applied[istiod.WorkloadType] && !f.without
}

// giveUp ends the wait for what did not come in time: what never comes must not slow
// every later change down.
func (f *Feed) giveUp() {
	f.without = !f.applied[istiod.WorkloadType]
	for url, n := range f.pending {
		if n == 0 {
			continue
		}
		for name := range f.wants[url] {
			f.wants[url][name] = false
		}
		f.pending[url] = 0
	}
}

// askAgain subscribes anew to the secrets that are missing. One that is subscribed to
// is not answered again, so it is given up first.
func (f *Feed) askAgain() {
	f.mu.Lock()
	defer f.mu.Unlock()
	url := istiod.SecretType
	var all, given []string
	for name := range f.wants[url] {
		all = append(all, name)
		if _, ok := f.held[url][name]; ok {
			given = append(given, name)
		}
	}
	if len(given) < len(all) {
		f.subscribe(url, given)
		f.subscribe(url, all)
	}
}

// Run builds and publishes models until ctx ends.
func (f *Feed) Run(ctx context.Context) error {
	limit := firstWarm
	t := time.NewTicker(again)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			f.askAgain()
			continue
		case <-f.dirty:
		}
		if f.Ready() != nil {
			continue
		}
		if !f.settle(ctx, limit) {
			return nil
		}
		limit = warm
		f.mu.Lock()
		f.giveUp()
		m := f.opts.World.Model()
		f.mu.Unlock()
		f.opts.Publish(m)
	}
}

// settle waits for the end of a burst; false: ctx ended.
func (f *Feed) settle(ctx context.Context, limit time.Duration) bool {
	start := time.Now()
	t := time.NewTimer(quiet)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-f.dirty:
			if time.Since(start) >= burst && !f.warming() {
				return true
			}
			t.Reset(quiet)
		case <-t.C:
			if !f.warming() || time.Since(start) >= limit {
				return true
			}
			t.Reset(quiet)
		}
		if time.Since(start) >= limit {
			return true
		}
	}
}
