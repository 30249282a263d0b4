package controller

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// leaseName is the Lease of who writes.
const leaseName = "waypoint-controller"

// election runs work in one replica at a time.
type election struct {
	o       *Options
	log     *slog.Logger
	leading atomic.Bool
}

// run competes for the Lease until ctx ends, and runs work while it is held. Losing
// it, when the API server was away for one, ends the work and begins anew.
func (e *election) run(ctx context.Context, work func(context.Context)) {
	for ctx.Err() == nil {
		if err := e.once(ctx, work); err != nil {
			e.log.Error("no election", "error", err)
			wait(ctx, e.o.RetryPeriod)
		}
	}
}

// lock tells when the Lease is taken, which client-go does only in another
// goroutine.
type lock struct {
	resourcelock.Interface
	taken bool // owned by the elector's goroutine
}

// RecordEvent is called, in step, as the Lease is taken.
func (l *lock) RecordEvent(s string) {
	l.taken = l.taken || s == "became leader"
	l.Interface.RecordEvent(s)
}

func (e *election) once(ctx context.Context, work func(context.Context)) error {
	lease, err := resourcelock.New(resourcelock.LeasesResourceLock, e.o.Namespace, leaseName, e.o.Core.CoreV1(), e.o.Core.CoordinationV1(),
		resourcelock.ResourceLockConfig{Identity: e.o.Identity})
	if err != nil {
		return err
	}
	l := &lock{Interface: lease}
	ended := make(chan struct{})
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: l, Name: leaseName, ReleaseOnCancel: true,
		LeaseDuration: e.o.LeaseDuration, RenewDeadline: e.o.RenewDeadline, RetryPeriod: e.o.RetryPeriod,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(held context.Context) {
				defer close(ended)
				held, stop := context.WithCancel(held)
				defer stop()
				defer context.AfterFunc(ctx, stop)()
				e.leading.Store(true)
				defer e.leading.Store(false)
				e.log.Info("this replica writes", "identity", e.o.Identity)
				work(held)
				e.log.Info("this replica writes no longer", "identity", e.o.Identity)
			},
			OnStoppedLeading: func() {},
		},
	})
	if err != nil {
		return err
	}
	// The Lease is given back only when the work has ended, so that there are never
	// two who write.
	held, release := context.WithCancel(context.WithoutCancel(ctx))
	defer release()
	defer context.AfterFunc(ctx, func() {
		if e.leading.Load() {
			<-ended
		}
		release()
	})()
	elector.Run(held)
	if l.taken {
		<-ended
	}
	return nil
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
