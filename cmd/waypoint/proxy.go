package main

import (
	"context"
	"crypto/fips140"
	"encoding/json"
	"errors"
	"log/slog"
	"math"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"waypoint.dev/waypoint/admin"
	"waypoint.dev/waypoint/admin/view"
	"waypoint.dev/waypoint/agent"
	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/config/istiod"
	"waypoint.dev/waypoint/identity"
	"waypoint.dev/waypoint/identity/istioca"
	"waypoint.dev/waypoint/identity/spiffeapi"
	"waypoint.dev/waypoint/telemetry/otlp"
	"waypoint.dev/waypoint/xds"
	"waypoint.dev/waypoint/xds/dump"
	"waypoint.dev/waypoint/xds/feed"
)

func proxyCommand() *cobra.Command {
	var (
		s     settings
		flags agent.Flags
		root  string
	)
	cmd := &cobra.Command{
		Use:   "proxy waypoint",
		Short: "Serve what istiod says: the command line of Istio's own waypoint Deployment",
		Long: `proxy takes pilot-agent's place in the Deployment that istiod makes for a
Gateway of class istio-waypoint: the same arguments, environment, mounts, ports
and probes. Annotate the Gateway with this image (docs/istio.md):

  kubectl annotate gateway waypoint sidecar.istio.io/proxyImage=<image>

Flags of pilot-agent that mean nothing here are taken with one warning.`,
		Args:               arguments(1, math.MaxInt),
		FParseErrWhitelist: cobra.FParseErrWhitelist{UnknownFlags: true},
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	fs.StringVar(&flags.Domain, "domain", "", "<namespace>.svc.<cluster domain>")
	fs.StringVar(&flags.ServiceCluster, "serviceCluster", "", "<service account>.<namespace>")
	fs.StringVar(&flags.LogLevel, "log_output_level", "default:info", "scope:level,...; the default scope counts")
	fs.BoolVar(&flags.LogJSON, "log_as_json", false, "log as JSON")
	fs.String("proxyLogLevel", "", "Envoy's log level; see --log_output_level")
	fs.String("proxyComponentLogLevel", "", "Envoy's log levels by component; see --log_output_level")
	fs.StringVar(&root, "root-dir", "/", "where the pod's mounts are found, outside a pod")
	s.register(fs)
	for _, hidden := range []string{"log-format", "log-level", "drain-delay", "drain-timeout"} {
		fs.MarkHidden(hidden)
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		flags.Role = args[0]
		a, err := agent.Parse(agent.Input{Flags: flags, Environ: os.Environ(), Root: root, Addrs: ownAddrs(), FIPS: fips140.Enabled()})
		if err != nil {
			return err
		}
		s.logFormat, s.logLevel = "text", a.LogLevel
		if a.LogJSON {
			s.logFormat = "json"
		}
		log, level, err := newLogger(s.logFormat, s.logLevel)
		if err != nil {
			return err
		}
		if unknown := agent.UnknownFlags(os.Args[1:], func(n string) bool { return n == "help" || fs.Lookup(n) != nil }); len(unknown) > 0 {
			log.Warn("flags that mean nothing here", "flags", strings.Join(unknown, " "))
		}
		for _, w := range a.Warnings {
			log.Warn(w)
		}
		s.drainDelay, s.drainTimeout = a.Drain.Delay, a.Drain.Timeout
		if a.Threads > 0 {
			runtime.GOMAXPROCS(a.Threads)
		}
		return runProxy(cmd.Context(), s, a, log, level)
	}
	return cmd
}

// runProxy gets an identity, starts, and follows istiod.
func runProxy(ctx context.Context, s settings, a *agent.Settings, log *slog.Logger, level *slog.LevelVar) error {
	if s.maxAge == 0 {
		s.maxAge = -1
	}
	node, err := xds.NewNode(a.Node.ID, a.Node.Cluster, a.Node.Locality.Region, a.Node.Locality.Zone, a.Node.Locality.SubZone, a.Node.Metadata)
	if err != nil {
		return err
	}
	ids, err := awaitIdentity(ctx, s.ports, level, log, func(ctx context.Context) (identity.Source, error) { return proveIdentity(ctx, a, log) })
	switch {
	case errors.Is(err, errStopped):
		log.Info(err.Error())
		return nil
	case err != nil:
		return err
	}
	if a.CRL != "" {
		crl, err := identity.WatchCRL(a.CRL, log, func() {
			if s, ok := ids.(interface{ Recheck() }); ok {
				s.Recheck()
			}
		})
		if err != nil {
			ids.Close()
			return err
		}
		defer crl.Close()
		s.revoked = crl.Revoked
	}
	conn, err := xds.Dial(transport(a.Discovery, a))
	if err != nil {
		ids.Close()
		return err
	}
	defer conn.Close()

	var in *instance
	var first sync.Once
	connected := make(chan struct{})
	policies := newOwnPolicies(a.Policies, config.Owner{Namespace: a.Namespace, Name: a.Gateway})
	f := feed.New(feed.Options{
		World: istiod.NewWorld(istiod.Options{
			Namespace: a.Namespace, Gateway: a.Gateway, Class: a.Class, TrustDomain: a.TrustDomain, RootNamespace: a.RootNamespace,
			ClusterID: a.ClusterID, Network: a.Network, MeshID: a.MeshID, Domain: a.Domain,
		}),
		Publish: func(m *config.Model) {
			first.Do(func() { close(connected) })
			trust(ids, m.Mesh, log)
			policies.publish(in, m)
		},
		Server: func(id string) { greet(id, log) },
		Log:    log,
	})
	client := xds.New(xds.Config{Conn: conn, Node: node, Types: feed.Types, Handler: f, Log: log})
	f.Bind(client)
	s.applied = f.Ready
	s.collect = append(s.collect, streamMetrics{client})
	s.admin = func(in *instance, o *admin.Options) {
		src := dump.Source{Feed: f, Node: node, IDs: ids}
		o.Dump = func(q map[string]string) any {
			_, eds := q["include_eds"]
			src := src
			src.Extra = view.Config(in.store.Load(), in.compile.list())
			return shown(dump.Config(src, eds))
		}
		o.Clusters = func(asJSON bool) any {
			if asJSON {
				return shown(dump.Clusters(f))
			}
			return view.Backends(in.store.Load())
		}
	}
	s.network, s.service, s.node = a.Network, a.Node.Cluster, spanNode(a)
	if in, err = start(s, identity.Restrict(ids, a.Curves), log, level); err != nil {
		ids.Close()
		return err
	}
	log.Info("waiting for configuration", "istiod", a.Discovery.Address, "node", a.Node.ID, "istio", agent.IstioVersion)
	return in.run(ctx, func(ctx context.Context) error {
		var wg sync.WaitGroup
		wg.Go(func() { f.Run(ctx) })
		wg.Go(func() { policies.watch(ctx, in) })
		wg.Go(func() {
			select {
			case <-connected:
				askVersion(ctx, a.Discovery.Address, log)
			case <-ctx.Done():
			}
		})
		// It ends with ctx only: a control plane that is away is waited for.
		err := client.Run(ctx)
		wg.Wait()
		if errors.Is(err, context.Canceled) {
			return nil
		}
		return err
	})
}

// proveIdentity waits for the first certificate, for as long as it takes: the
// probe tells Kubernetes, and without one nothing can serve.
func proveIdentity(ctx context.Context, a *agent.Settings, log *slog.Logger) (identity.Source, error) {
	switch i := a.Identity; {
	case i.Socket != "":
		log.Info("identity from the SPIFFE Workload API", "socket", i.Socket)
		return spiffeapi.New(ctx, i.Socket, []string{a.TrustDomain}, log)
	case i.Cert != "":
		log.Info("identity from mounted files", "certificate", i.Cert)
		return identity.FromFiles(i.Cert, i.Key, i.Roots, []string{a.TrustDomain}, log)
	}
	conn, err := xds.Dial(transport(a.CA, a))
	if err != nil {
		return nil, err
	}
	src, err := istioca.New(ctx, istioca.Options{
		Conn: conn, TrustDomain: a.TrustDomain, Namespace: a.Namespace, Account: a.Account,
		TTL: a.CertTTL, Grace: istioca.Grace(a.Grace), CertSigner: a.Signer, RootFile: a.RootCert, Log: log,
	})
	if err != nil {
		conn.Close()
		return nil, err
	}
	return src, nil
}

// spanNode is the waypoint as the tags of its spans name it: what istiod would put
// into them.
func spanNode(a *agent.Settings) otlp.Node {
	labels, _ := a.Node.Metadata["LABELS"].(map[string]any)
	text := func(k string) string { s, _ := labels[k].(string); return s }
	return otlp.Node{
		ID: a.Node.ID, Namespace: a.Namespace, ClusterID: a.ClusterID, MeshID: a.MeshID,
		CanonicalService: text("service.istio.io/canonical-name"), CanonicalRevision: text("service.istio.io/canonical-revision"),
	}
}

func transport(e agent.Endpoint, a *agent.Settings) xds.Transport {
	return xds.Transport{Address: e.Address, ServerName: e.ServerName, RootFile: e.RootFile, TokenFile: e.TokenFile, Plaintext: e.Plaintext, Metadata: e.Metadata, Curves: a.Curves}
}

// trust follows the trust domain aliases that the control plane tells of.
func trust(ids identity.Source, m config.Mesh, log *slog.Logger) {
	s, ok := ids.(interface{ SetTrustDomains([]string) error })
	if !ok || m.TrustDomain == "" {
		return
	}
	if err := s.SetTrustDomains(append([]string{m.TrustDomain}, m.TrustAliases...)); err != nil {
		log.Error("the mesh's trust domains cannot be used; the present ones stay", "error", err)
	}
}

// shown turns an error into what a person at the administration port can read.
func shown(b json.RawMessage, err error) any {
	if err != nil {
		return map[string]string{"error": err.Error(), "time": time.Now().Format(time.RFC3339)}
	}
	return b
}
