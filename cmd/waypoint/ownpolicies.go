package main

import (
	"context"
	"sync"
	"time"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/config/kube"
)

// policyLook is how often a directory of policies that is not there is looked for.
const policyLook = 5 * time.Second

// ownPolicies lays the WaypointPolicies of a directory over what istiod sends.
type ownPolicies struct {
	dir string // fixed; empty: none

	mu      sync.Mutex
	overlay *kube.Overlay // guarded by mu
	last    *config.Model // guarded by mu: what istiod sent, nil before
}

func newOwnPolicies(dir string, waypoint config.Owner) *ownPolicies {
	p := &ownPolicies{dir: dir, overlay: kube.NewOverlay(waypoint)}
	if dir != "" {
		// Before the first model, so that no request is served without them. A
		// directory that cannot be read is told of by watch.
		if objs, err := kube.LoadDir(dir); err == nil || objs.Len() > 0 {
			p.overlay.Set(objs)
		}
	}
	return p
}

// publish serves a model of istiod's.
func (p *ownPolicies) publish(in *instance, m *config.Model) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = m
	in.publish(p.overlay.Apply(m), nil)
}

// watch follows the directory until ctx ends.
func (p *ownPolicies) watch(ctx context.Context, in *instance) {
	if p.dir == "" {
		return
	}
	set := func(objs *kube.Objects) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.overlay.Set(objs)
		if p.last != nil {
			in.publish(p.overlay.Apply(p.last), nil)
		}
	}
	for said := ""; ; {
		err := kube.Watch(ctx, p.dir, kube.WatchOptions{Failed: func(err error) {
			in.log.Error("WAYPOINT_POLICY_DIR cannot be read, the policies read before hold", "error", err)
		}}, set)
		if err == nil {
			return
		}
		if s := err.Error(); s != said {
			in.log.Error("WAYPOINT_POLICY_DIR cannot be read, no WaypointPolicy is applied", "error", err)
			said = s
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(policyLook):
		}
	}
}
