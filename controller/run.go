package controller

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"waypoint.dev/waypoint/controller/feed"
	"waypoint.dev/waypoint/controller/pki"
	"waypoint.dev/waypoint/controller/provision"
	"waypoint.dev/waypoint/controller/status"
	"waypoint.dev/waypoint/controller/token"
	"waypoint.dev/waypoint/controller/watch"
)

// stopping is how long streams may take to end after the last one was told to;
// waypoints go to another replica at once.
const stopping = 2 * time.Second

// Run runs a controller until ctx ends. It fails only at the start: what goes away
// later is waited for.
func Run(ctx context.Context, o Options) error {
	if err := o.fill(); err != nil {
		return err
	}
	log := o.Log
	feedLn, err := net.Listen("tcp", o.FeedAddr)
	if err != nil {
		return fmt.Errorf("controller: %w", err)
	}
	defer feedLn.Close()
	metricsLn, err := net.Listen("tcp", o.MetricsAddr)
	if err != nil {
		return fmt.Errorf("controller: %w", err)
	}
	defer metricsLn.Close()
	var debugLn net.Listener
	if o.DebugAddr != "" {
		if debugLn, err = net.Listen("tcp", o.DebugAddr); err != nil {
			return fmt.Errorf("controller: %w", err)
		}
		defer debugLn.Close()
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()

	store := feed.NewStore(feed.Mesh{RootNamespace: o.Mesh.RootNamespace, Domain: o.Mesh.Domain})
	var clients *pki.Clients
	if o.ClientRoots != "" {
		if clients, err = pki.NewClients(o.ClientRoots, log); err != nil {
			return fmt.Errorf("controller: %w", err)
		}
	}
	server := feed.New(store, feed.Options{
		TrustDomains: append([]string{o.Mesh.TrustDomain}, o.Mesh.TrustAliases...),
		Verify:       token.New(o.Core.AuthenticationV1().TokenReviews(), o.Audience).Verify,
		Log:          log,
	})
	certs, err := o.certificates(ctx, &wg)
	if err != nil {
		return err
	}
	maker := provision.New(provision.Options{Client: o.Dynamic, Settings: o.Provision, Roots: certs.Roots, Log: log})
	var watcher *watch.Watcher
	engine := status.New(status.Options{
		Client: o.Dynamic, Store: store, ControllerName: maker.ControllerName(), Mesh: o.Mesh,
		Gateways: maker.Gateways,
		Resource: func(group, kind string) (watch.Kind, bool) { return watcher.Kind(group, kind) },
		Attached: maker.SetAttached, PerSecond: o.StatusPerSecond, Burst: int(5 * o.StatusPerSecond), Log: log,
	})
	watcher = watch.New(watch.Options{
		Core: o.Core, Dynamic: o.Dynamic, RootNamespace: o.Mesh.RootNamespace, Log: log,
		Sink: sinks{feedSink{store, log}, maker, engine},
	})
	elect := &election{o: &o, log: log}

	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), server,
		collector{elect, watcher, engine, maker})
	ready := func() []string {
		w := watcher.Waiting()
		if certs.Roots() == nil {
			w = append(w, "certificate")
		}
		if len(w) == 0 && !watcher.Synced() {
			w = append(w, "first list")
		}
		return w
	}
	wg.Go(func() { serveHTTP(ctx, metricsLn, monitoring(reg, ready), log) })
	if debugLn != nil {
		wg.Go(func() { serveHTTP(ctx, debugLn, profiles(), log) })
	}
	wg.Go(func() { watcher.Run(ctx) })
	wg.Go(func() {
		elect.run(ctx, func(ctx context.Context) { write(ctx, maker, engine, certs) })
	})
	if o.listening != nil {
		o.listening(feedLn.Addr(), metricsLn.Addr())
	}
	log.Info("serving", "feed", feedLn.Addr().String(), "metrics", metricsLn.Addr().String())
	return serveFeed(ctx, feedLn, server, pki.ServerTLS(certs, clients), log)
}

// certificates begins to keep the server certificate.
func (o *Options) certificates(ctx context.Context, wg *sync.WaitGroup) (pki.Source, error) {
	if o.Cert != "" {
		f, err := pki.NewFiles(o.Cert, o.Key, o.Roots, o.Log)
		if err != nil {
			return nil, err
		}
		wg.Go(func() { f.Run(ctx) })
		return f, nil
	}
	a := pki.NewAuthority(o.Core.CoreV1().Secrets(o.Namespace), o.CASecret, o.names(), o.Log)
	wg.Go(func() {
		if a.Load(ctx) == nil {
			a.Run(ctx)
		}
	})
	return a, nil
}

// write is the work of the elected replica.
func write(ctx context.Context, maker *provision.Reconciler, engine *status.Engine, certs pki.Source) {
	var wg sync.WaitGroup
	wg.Go(func() { maker.Run(ctx) })
	wg.Go(func() {
		for {
			changed := certs.Changed()
			maker.Refresh()
			select {
			case <-ctx.Done():
				return
			case <-changed:
			}
		}
	})
	wg.Go(func() { engine.Run(ctx) })
	wg.Wait()
}

// serveFeed serves waypoints until ctx ends.
func serveFeed(ctx context.Context, ln net.Listener, server *feed.Server, cfg *tls.Config, log *slog.Logger) error {
	g := grpc.NewServer(append(feed.ServerOptions(), grpc.Creds(credentials.NewTLS(cfg)))...)
	server.Register(g)
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		// Streams have no end of their own: what is in flight gets a moment.
		t := time.AfterFunc(stopping, g.Stop)
		defer t.Stop()
		g.GracefulStop()
	})
	err := g.Serve(ln)
	if !stop() {
		<-ended
	}
	if ctx.Err() != nil || errors.Is(err, grpc.ErrServerStopped) {
		log.Info("stopped")
		return nil
	}
	return fmt.Errorf("controller: %w", err)
}
