package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"waypoint.dev/waypoint/admin"
	"waypoint.dev/waypoint/admin/view"
	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/config/kube"
	"waypoint.dev/waypoint/identity"
	"waypoint.dev/waypoint/resilience/balance"
)

// meshFlags say which mesh and which waypoint manifests are read for.
type meshFlags struct {
	waypoint, trustDomain, rootNamespace, clusterID, network, domain string
	aliases                                                          []string
	normalization                                                    string
	locality, node                                                   string
	labels                                                           map[string]string
}

func (f *meshFlags) register(fs *pflag.FlagSet) {
	fs.StringVar(&f.waypoint, "waypoint", "", "namespace/name of the Gateway to run as (default: the only waypoint Gateway there is)")
	fs.StringVar(&f.trustDomain, "trust-domain", "cluster.local", "trust domain of the mesh")
	fs.StringSliceVar(&f.aliases, "trust-domain-alias", nil, "further trust domains that count as the mesh's own")
	fs.StringVar(&f.rootNamespace, "root-namespace", "istio-system", "namespace whose policies hold everywhere")
	fs.StringVar(&f.clusterID, "cluster-id", "Kubernetes", "cluster name in metrics")
	fs.StringVar(&f.network, "network", "", "network of this waypoint")
	fs.StringVar(&f.domain, "domain", "cluster.local", "DNS domain of the cluster")
	fs.StringVar(&f.normalization, "path-normalization", "BASE", "NONE, BASE, MERGE_SLASHES or DECODE_AND_MERGE_SLASHES")
	fs.StringVar(&f.locality, "locality", "", "region/zone/subzone of this waypoint, for locality failover and traffic distribution (default: that of --node, else every endpoint is equally near)")
	fs.StringVar(&f.node, "node", "", "node of this waypoint, for traffic distribution; the topology labels of a Node of this name say its locality too")
	fs.StringToStringVar(&f.labels, "labels", nil, "labels of this waypoint's pod, key=value, for failoverPriority")
}

var normalizations = map[string]config.Normalization{
	"NONE": config.NormalizeNone, "BASE": config.NormalizeBase, "DEFAULT": config.NormalizeBase,
	"MERGE_SLASHES": config.NormalizeMergeSlashes, "DECODE_AND_MERGE_SLASHES": config.NormalizeDecodeAndMergeSlashes,
}

func (f *meshFlags) options() (kube.Options, error) {
	n, ok := normalizations[f.normalization]
	if !ok {
		return kube.Options{}, fmt.Errorf("--path-normalization %q: use NONE, BASE, MERGE_SLASHES or DECODE_AND_MERGE_SLASHES", f.normalization)
	}
	var near balance.Locality
	parts := strings.Split(f.locality, "/")
	if len(parts) > 3 || f.locality != "" && slices.Contains(parts, "") {
		return kube.Options{}, fmt.Errorf("--locality %q: use region, region/zone or region/zone/subzone", f.locality)
	}
	for i, to := range []*string{&near.Region, &near.Zone, &near.Subzone} {
		if i < len(parts) {
			*to = parts[i]
		}
	}
	o := kube.Options{Locality: near, Node: f.node, Labels: f.labels, UpstreamTLS: true, Mesh: config.Mesh{
		TrustDomain: f.trustDomain, TrustAliases: f.aliases, RootNamespace: f.rootNamespace,
		ClusterID: f.clusterID, Network: f.network, Domain: f.domain, Normalization: n,
	}}
	if f.waypoint != "" {
		ns, name, ok := strings.Cut(f.waypoint, "/")
		if !ok || ns == "" || name == "" {
			return o, fmt.Errorf("--waypoint %q: use namespace/name of a Gateway", f.waypoint)
		}
		o.Waypoint = config.Owner{Namespace: ns, Name: name}
	}
	return o, nil
}

func (s *settings) register(fs *pflag.FlagSet) {
	fs.StringVar(&s.hbone, "hbone-addr", ":15008", "where to take tunnels")
	fs.StringVar(&s.ports.Admin, "admin-addr", admin.DefaultAddrs.Admin, "administration, loopback only")
	fs.StringVar(&s.ports.Metrics, "metrics-addr", admin.DefaultAddrs.Metrics, "metrics")
	fs.StringVar(&s.ports.Ready, "ready-addr", admin.DefaultAddrs.Ready, "readiness")
	fs.StringVar(&s.ports.Stats, "stats-addr", admin.DefaultAddrs.Stats, "metrics where Envoy has them; empty: off")
	fs.StringVar(&s.accessLog, "access-log", "", `access log: a file, or "-" for standard output (default: off, as in Istio)`)
	fs.StringVar(&s.accessLogFormat, "access-log-format", "text", "text (Istio's default) or json")
	fs.StringVar(&s.collector, "otlp", "", "send traces to this OTLP/gRPC collector, host:port (default: off)")
	fs.Float64Var(&s.sampling, "trace-sampling", 1, "percent of the traces that begin here to send; a caller's decision wins")
	fs.StringVar(&s.sessionKeys, "session-key-file", "", "secrets of session persistence, one a line of 16 bytes or more, the first makes tokens; replicas that share them share sessions (default: random)")
	s.bounds.register(fs)
	fs.StringVar(&s.logFormat, "log-format", "text", "text or json")
	fs.StringVar(&s.logLevel, "log-level", "info", "debug, info, warning or error")
	fs.DurationVar(&s.drainDelay, "drain-delay", 5*time.Second, "keep taking tunnels for so long after SIGTERM, until node proxies have heard")
	fs.DurationVar(&s.drainTimeout, "drain-timeout", 20*time.Second, "then let requests and streams end for so long")
	fs.DurationVar(&s.maxAge, "max-connection-age", 30*time.Minute, "ask clients to reconnect after about so long, so that new replicas get their share; 0: never")
}

// runDump is the configuration dump, with the conditions that a controller would
// write to the objects' status.
type runDump struct {
	view.Dump
	Source   any      `json:"source,omitempty"`
	Statuses []string `json:"statuses,omitempty"`
}

// source is where `waypoint run` has its objects from.
type source interface {
	// configure adds what the source shows of itself.
	configure(s *settings)
	// follow calls apply at first and after each change until ctx ends.
	follow(ctx context.Context, log *slog.Logger, apply func(*kube.Objects)) error
	// show is what the configuration dump says of it.
	show(query map[string]string) any
	close()
}

// runFlags are those of run.
type runFlags struct {
	settings
	mesh meshFlags
	ids  identityFlags
	far  xdsFlags
	dir  string
}

func runCommand() *cobra.Command {
	f := new(runFlags)
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Serve Kubernetes objects: manifests of a directory, or the cluster's through waypoint-controller",
		Long: `run serves what Kubernetes objects say: Gateway API routes, Istio policies,
services and endpoints. They come from a directory of ordinary manifests, which is
read again when it changes,

  waypoint run --config ./manifests --cert cert.pem --key key.pem --roots roots.pem

or from waypoint-controller, which sends what concerns the Gateway of this waypoint:

  waypoint run --xds waypoint-controller.waypoint-system:15012 --xds-roots ca.crt \
    --xds-token token --waypoint shop/waypoint --cert cert.pem --key key.pem --roots roots.pem

What cannot be read keeps its last good version. While the controller is away what
it sent stays in force. The certificate is a SPIFFE identity of the mesh
(spiffe://<domain>/ns/<namespace>/sa/<account>): from files, from istiod's CA (--ca)
or from a SPIFFE Workload API (--workload-api).`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd.Context()) },
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	fs.StringVar(&f.dir, "config", "", "directory of manifests")
	f.far.register(fs)
	f.ids.register(fs)
	f.mesh.register(fs)
	f.settings.register(fs)
	return cmd
}

// check refuses flags that cannot stand together.
func (f *runFlags) check(o *kube.Options) error {
	switch {
	case f.dir == "" && f.far.addr == "":
		return errors.New("--config or --xds is required: a directory of Kubernetes manifests, or the controller (try `waypoint demo` first)")
	case f.dir != "" && f.far.addr != "":
		return errors.New("--config and --xds are two sources: give one")
	}
	if err := f.far.check(o.Waypoint); err != nil {
		return err
	}
	return f.ids.check(o.Waypoint)
}

func (f *runFlags) run(ctx context.Context) error {
	log, level, err := newLogger(f.logFormat, f.logLevel)
	if err != nil {
		return err
	}
	o, err := f.mesh.options()
	if err != nil {
		return err
	}
	if err := f.check(&o); err != nil {
		return err
	}
	if f.maxAge == 0 {
		f.maxAge = -1
	}
	id, err := awaitIdentity(ctx, f.ports, level, log, func(ctx context.Context) (identity.Source, error) {
		return f.ids.open(ctx, &f.mesh, o.Waypoint, log)
	})
	switch {
	case errors.Is(err, errStopped):
		log.Info(err.Error())
		return nil
	case err != nil:
		return err
	}
	var src source = dirSource(f.dir)
	if f.far.addr != "" {
		if src, err = f.far.open(o.Waypoint, id, f.ids.roots, log); err != nil {
			id.Close()
			return err
		}
	}
	defer src.close()
	src.configure(&f.settings)
	var statuses atomic.Pointer[kube.Statuses]
	f.admin = func(in *instance, a *admin.Options) {
		a.Dump = func(query map[string]string) any { return dumpOf(in, src.show(query), statuses.Load()) }
	}
	in, err := start(f.settings, id, log, level)
	if err != nil {
		id.Close()
		return err
	}
	b := kube.NewBuilder(o)
	return in.run(ctx, func(ctx context.Context) error {
		return src.follow(ctx, log, func(objs *kube.Objects) {
			m := b.Build(objs)
			trust(id, m.Mesh, log)
			in.publish(m, objs.Locate)
			st := b.Statuses()
			statuses.Store(&st)
		})
	})
}

// dumpOf is config_dump; statuses are nil before the first build.
func dumpOf(in *instance, source any, statuses *kube.Statuses) runDump {
	d := runDump{Dump: view.Config(in.store.Load(), in.compile.list()), Source: source}
	if statuses != nil {
		var text strings.Builder
		statuses.Print(&text)
		d.Statuses = strings.Split(strings.TrimRight(text.String(), "\n"), "\n")
	}
	return d
}

// dirSource is a directory of manifests.
type dirSource string

func (dirSource) configure(*settings)        {}
func (dirSource) show(map[string]string) any { return nil }
func (dirSource) close()                     {}

func (d dirSource) follow(ctx context.Context, log *slog.Logger, apply func(*kube.Objects)) error {
	return kube.Watch(ctx, string(d), kube.WatchOptions{Failed: func(err error) {
		log.Error("the configuration directory cannot be read; what was read stays in force", "error", err)
	}}, apply)
}
