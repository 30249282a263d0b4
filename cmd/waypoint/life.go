package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// run waits for a signal, or for source to end, and drains.
func (in *instance) run(ctx context.Context, source func(context.Context) error) error {
	signal.Notify(in.stop, syscall.SIGTERM, os.Interrupt)
	defer signal.Stop(in.stop)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- source(ctx) }()
	var err error
	select {
	case <-in.stop:
	case err = <-ended:
		if err != nil {
			in.log.Error("the source of configuration ended; stopping", "error", err)
		}
	}
	in.shutdown()
	cancel()
	in.close()
	return err
}

// shutdown drains until everything has ended, the deadline, or a second signal.
func (in *instance) shutdown() {
	in.draining.Store(true)
	ctx, cancel := context.WithTimeout(context.Background(), in.set.drainDelay+in.set.drainTimeout)
	defer cancel()
	in.log.Info("draining", "tunnels", in.proxy.Active(), "delay", in.set.drainDelay, "timeout", in.set.drainTimeout)
	go func() {
		select {
		case <-in.stop:
			in.log.Warn("a second signal: stopping at once", "tunnels", in.proxy.Active())
			os.Exit(1)
		case <-ctx.Done():
		}
	}()
	if err := in.server.Shutdown(ctx); err != nil {
		in.log.Warn("the drain deadline passed; what is left is cut", "tunnels", in.proxy.Active())
		return
	}
	in.log.Info("drained")
}

// drainOnly is the drain of the administration port: the process stays.
func (in *instance) drainOnly() {
	if in.draining.Swap(true) {
		return
	}
	go in.server.Shutdown(context.Background())
}

func (in *instance) close() {
	in.proxy.Stop()
	in.server.Close()
	close(in.closing) // after Close: a Serve that was held back must end at once
	in.accepting.Wait()
	in.proxy.Close()
	for _, f := range in.unwatch {
		f()
	}
	in.reports.Close()
	in.stages.Close()
	in.names.Close()
	in.pool.Close()
	if l := in.reporter.Log(); l != nil {
		l.Close()
	}
	if in.tracer != nil {
		// What a slow collector has not taken by then is lost.
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		in.tracer.Close(ctx)
		cancel()
	}
	in.admin.Close()
	in.ids.Close()
}
