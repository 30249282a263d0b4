package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"os"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"
	"google.golang.org/grpc"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/config/kube"
	"waypoint.dev/waypoint/identity"
	"waypoint.dev/waypoint/xds"
	"waypoint.dev/waypoint/xds/objects"
)

// xdsFlags say where the controller is and how both sides prove themselves.
type xdsFlags struct {
	addr, roots, name, token string
}

func (f *xdsFlags) register(fs *pflag.FlagSet) {
	fs.StringVar(&f.addr, "xds", "", "host:port of waypoint-controller, in place of --config; --waypoint names the Gateway")
	fs.StringVar(&f.roots, "xds-roots", "", "roots of the controller's certificate, PEM, followed; SYSTEM: the system's (default: --roots)")
	fs.StringVar(&f.name, "xds-server-name", "", "name in the controller's certificate (default: the host of --xds)")
	fs.StringVar(&f.token, "xds-token", "", "service account token for the controller, read again for each stream (default: this waypoint's certificate proves it)")
}

func (f *xdsFlags) check(gw config.Owner) error {
	switch {
	case f.addr == "" && f.roots+f.name+f.token != "":
		return errors.New("--xds-roots, --xds-server-name and --xds-token belong to --xds")
	case f.addr != "" && gw.Name == "":
		return errors.New("--waypoint is required with --xds: the controller sends what concerns that Gateway")
	}
	return nil
}

// open prepares the connection; it connects when it is followed.
func (f *xdsFlags) open(gw config.Owner, ids identity.Source, meshRoots string, log *slog.Logger) (source, error) {
	t := xds.Transport{Address: f.addr, ServerName: f.name, RootFile: cmp.Or(f.roots, meshRoots), TokenFile: f.token}
	if f.token == "" {
		t.Certificate = func() (*tls.Certificate, error) {
			id := ids.SVID()
			if id == nil {
				return nil, errors.New("no certificate yet")
			}
			return &id.Certificate, nil
		}
	}
	conn, err := xds.Dial(t)
	if err != nil {
		return nil, err
	}
	host, _ := os.Hostname()
	node, err := objects.NewNode(gw, cmp.Or(os.Getenv("POD_NAME"), host))
	if err != nil {
		conn.Close()
		return nil, err
	}
	x := &xdsSource{addr: f.addr, conn: conn, apply: func(*kube.Objects) {}}
	x.feed = objects.New(objects.Options{Build: func(o *kube.Objects) { x.apply(o) }, Log: log})
	x.client = xds.New(xds.Config{Conn: conn, Node: node, Types: objects.Types, Handler: x.feed, Held: x.feed.Versions, Log: log})
	return x, nil
}

// xdsSource is the controller.
type xdsSource struct {
	// Fixed after open; apply after follow began.
	addr   string
	conn   *grpc.ClientConn
	feed   *objects.Feed
	client *xds.Client
	apply  func(*kube.Objects)
}

func (x *xdsSource) configure(s *settings) {
	s.applied = x.feed.Ready
	s.collect = append(s.collect, streamMetrics{x.client}, feedMetrics{x.feed})
}

func (x *xdsSource) close() { x.conn.Close() }

func (x *xdsSource) follow(ctx context.Context, log *slog.Logger, apply func(*kube.Objects)) error {
	x.apply = apply
	log.Info("waiting for configuration", "controller", x.addr)
	var wg sync.WaitGroup
	wg.Go(func() { x.feed.Run(ctx) })
	// It ends with ctx only: a controller that is away is waited for.
	err := x.client.Run(ctx)
	wg.Wait()
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// feedDump is what the configuration dump says of the controller.
type feedDump struct {
	Controller string            `json:"controller"`
	Connected  bool              `json:"connected"`
	Server     string            `json:"server,omitempty"`
	State      string            `json:"state,omitempty"`
	Received   string            `json:"received,omitempty"`
	Objects    int               `json:"objects"`
	Pending    int               `json:"pending"`
	Versions   map[string]string `json:"versions,omitempty"`
	Refused    []objects.Refused `json:"refused,omitempty"`
}

// show lists the objects with their versions when it is asked with include_objects.
func (x *xdsSource) show(query map[string]string) any {
	st := x.feed.Stats()
	d := feedDump{
		Controller: x.addr, Connected: x.client.Stats().Connected, Server: st.Server, State: st.State,
		Objects: st.Objects, Pending: st.Pending, Refused: x.feed.Refusals(),
	}
	if !st.At.IsZero() {
		d.Received = st.At.UTC().Format("2006-01-02T15:04:05.000Z")
	}
	if _, ok := query["include_objects"]; ok {
		d.Versions = x.feed.Versions("")
	}
	return d
}

var (
	descHeld    = desc("waypoint_xds_objects", "Objects that the controller sent and that are in force.")
	descRefused = desc("waypoint_xds_objects_refused", "Objects of which the newest version cannot be used; the last good one is, or nothing.")
	descWaiting = desc("waypoint_xds_objects_pending", "Changes received and not applied yet.")
	descHeard   = desc("waypoint_xds_state_timestamp_seconds", "When the last complete state came.")
)

// feedMetrics shows what came from the controller.
type feedMetrics struct{ feed *objects.Feed }

// Describe implements prometheus.Collector.
func (m feedMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descHeld, descRefused, descWaiting, descHeard} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m feedMetrics) Collect(ch chan<- prometheus.Metric) {
	st := m.feed.Stats()
	ch <- prometheus.MustNewConstMetric(descHeld, prometheus.GaugeValue, float64(st.Objects))
	ch <- prometheus.MustNewConstMetric(descRefused, prometheus.GaugeValue, float64(st.Refused))
	ch <- prometheus.MustNewConstMetric(descWaiting, prometheus.GaugeValue, float64(st.Pending))
	if !st.At.IsZero() {
		ch <- prometheus.MustNewConstMetric(descHeard, prometheus.GaugeValue, float64(st.At.UnixMilli())/1000)
	}
}
