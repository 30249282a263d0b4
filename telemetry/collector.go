package telemetry

import (
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// peerLabels, in the order of Istio's standard metrics.
var labels = []string{
	"reporter",
	"source_workload", "source_workload_namespace", "source_principal", "source_app", "source_version",
	"source_canonical_service", "source_canonical_revision", "source_cluster",
	"destination_workload", "destination_workload_namespace", "destination_principal", "destination_app", "destination_version",
	"destination_service", "destination_service_name", "destination_service_namespace",
	"destination_canonical_service", "destination_canonical_revision", "destination_cluster",
	"request_protocol", "response_flags", "connection_security_policy",
}

var httpLabels = append(append([]string(nil), labels...), "response_code", "grpc_response_status")

func desc(name, help string, l []string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, l, nil)
}

var metricHelp = [metricCount]string{
	"Requests handled.", "Duration of requests.", "Body sizes of requests.", "Body sizes of responses.",
	"gRPC messages received from clients.", "gRPC messages sent to clients.",
	"TCP connections opened.", "TCP connections closed.", "Bytes sent to clients on TCP connections.", "Bytes received from clients on TCP connections.",
}

// descs describe the metrics with the labels that Istio gives them.
var descs = func() (d [metricCount]*prometheus.Desc) {
	for i, name := range metricNames {
		l := httpLabels
		if metric(i) >= tcpOpened {
			l = labels
		}
		d[i] = desc("istio_"+name, metricHelp[i], l)
	}
	return d
}()

var (
	descBuild   = desc("istio_build", "Version of this proxy.", []string{"component", "tag"})
	descActive  = desc("waypoint_exchanges_active", "Requests and connections under way.", nil)
	descLogLost = desc("waypoint_access_log_lost_total", "Access-log lines dropped because the sink could not keep up.", nil)
)

// Describe sends nothing: the collector is unchecked, as label sets come and go.
func (r *Reporter) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (r *Reporter) Collect(ch chan<- prometheus.Metric) {
	ch <- prometheus.MustNewConstMetric(descBuild, prometheus.GaugeValue, 1, "proxy", r.opts.Build)
	ch <- prometheus.MustNewConstMetric(descActive, prometheus.GaugeValue, float64(r.active.Load()))
	lost := uint64(0)
	if r.opts.Log != nil {
		lost += r.opts.Log.Lost()
	}
	if r.opts.Lost != nil {
		lost += r.opts.Lost()
	}
	if r.opts.Log != nil || r.opts.Lost != nil {
		ch <- prometheus.MustNewConstMetric(descLogLost, prometheus.CounterValue, float64(lost))
	}
	r.denied.collect(ch)
	// The same labels may stand in several parts of the registry: one for each
	// shard of tunnels that saw them. They are summed before they are sent.
	sums, changed := map[seriesKey]*sum{}, false
	r.reg.each(func(s *series) {
		k := seriesKey{s.pairKey, s.outcome, s.metrics, s.values}
		changed = changed || s.metrics != nil
		t := sums[k]
		if t == nil {
			t = &sum{}
			sums[k] = t
		}
		t.add(s)
	})
	if changed {
		sendChanged(ch, sums)
		return
	}
	for k, t := range sums {
		t.send(ch, k)
	}
}

type seriesKey struct {
	pairKey
	outcome
	metrics *Metrics
	values  string
}

type sum struct {
	requests, reqMsgs, resMsgs       uint64
	duration, received, sent         histSum
	opened, closed, tcpRecv, tcpSent uint64
}

type histSum struct {
	counts [len(buckets) + 1]uint64
	sum    uint64
}

func (h *histSum) add(s *histogram) {
	for i := range s.counts {
		h.counts[i] += s.counts[i].Load()
	}
	h.sum += s.sum.Load()
}

func (t *sum) add(s *series) {
	if s.tcp != nil {
		for i := range s.tcp {
			sh := &s.tcp[i]
			t.opened += sh.opened.Load()
			t.closed += sh.closed.Load()
			t.tcpRecv += sh.received.Load()
			t.tcpSent += sh.sent.Load()
		}
		return
	}
	for i := range s.http {
		sh := &s.http[i]
		t.requests += sh.requests.Load()
		t.reqMsgs += sh.requestMessages.Load()
		t.resMsgs += sh.responseMessages.Load()
		t.duration.add(&sh.duration)
		t.received.add(&sh.received)
		t.sent.add(&sh.sent)
	}
}

// share is a metric's part of a sum: a count, or a histogram.
type share struct {
	metric metric
	count  uint64
	hist   *histSum
}

// shares are the metrics of a sum, by what its protocol has.
func (t *sum) shares(p Protocol) []share {
	if p == TCP {
		return []share{{tcpOpened, t.opened, nil}, {tcpClosed, t.closed, nil}, {tcpReceived, t.tcpRecv, nil}, {tcpSent, t.tcpSent, nil}}
	}
	out := []share{{requests, t.requests, nil}, {duration, 0, &t.duration}, {requestBytes, 0, &t.received}, {responseBytes, 0, &t.sent}}
	if p == GRPC {
		out = append(out, share{requestMessages, t.reqMsgs, nil}, share{responseMessages, t.resMsgs, nil})
	}
	return out
}

func (s *share) send(ch chan<- prometheus.Metric, d *prometheus.Desc, lv []string) {
	if s.hist == nil {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(s.count), lv...)
		return
	}
	cum, n := make(map[float64]uint64, len(buckets)), uint64(0)
	for i, b := range buckets {
		n += s.hist.counts[i]
		cum[b] = n
	}
	n += s.hist.counts[len(buckets)]
	ch <- prometheus.MustNewConstHistogram(d, n, float64(s.hist.sum)/1000, cum, lv...)
}

func (t *sum) send(ch chan<- prometheus.Metric, k seriesKey) {
	lv := k.labels()
	for _, s := range t.shares(k.protocol) {
		s.send(ch, descs[s.metric], lv)
	}
}

// sendChanged sends metrics of which a source changes some: what has come to have the
// same labels is added up.
func sendChanged(ch chan<- prometheus.Metric, sums map[seriesKey]*sum) {
	type final struct {
		share
		names, values []string
	}
	all := map[string]*final{}
	for k, t := range sums {
		base, lv := labels, k.labels()
		if k.protocol != TCP {
			base = httpLabels
		}
		for _, s := range t.shares(k.protocol) {
			names, values := base, lv
			if k.metrics != nil {
				if k.metrics.of[s.metric].drop {
					continue
				}
				names, values = k.metrics.labels(s.metric, base, lv, k.values)
			}
			id := metricNames[s.metric] + "\x00" + strings.Join(names, "\x00") + "\x01" + strings.Join(values, "\x00")
			if f := all[id]; f != nil {
				f.merge(&s)
			} else {
				all[id] = &final{s.clone(), names, values}
			}
		}
	}
	for _, f := range all {
		f.send(ch, desc("istio_"+metricNames[f.metric], metricHelp[f.metric], f.names), f.values)
	}
}

// clone copies a share that others are added to.
func (s share) clone() share {
	if s.hist != nil {
		h := *s.hist
		s.hist = &h
	}
	return s
}

func (s *share) merge(o *share) {
	s.count += o.count
	if s.hist == nil {
		return
	}
	s.hist.sum += o.hist.sum
	for i := range s.hist.counts {
		s.hist.counts[i] += o.hist.counts[i]
	}
}

func (k *seriesKey) labels() []string {
	src, dst, svc := k.source, k.dest, k.service
	if src == nil {
		src = &Peer{}
	}
	if dst == nil {
		dst = &Peer{}
	}
	if svc == nil {
		svc = &Service{}
	}
	srcRev := src.CanonicalRevision
	if srcRev == "" {
		srcRev = "latest" // Istio's default for a source; a destination's is unknown
	}
	security := "none"
	if k.mutual {
		security = "mutual_tls"
	}
	lv := make([]string, 0, len(httpLabels))
	lv = append(lv,
		"waypoint",
		or(src.Workload), or(src.Namespace), or(src.Principal), or(src.App), or(src.Version),
		or(src.CanonicalService), srcRev, or(src.Cluster),
		or(dst.Workload), or(dst.Namespace), or(dst.Principal), or(dst.App), or(dst.Version),
		or(svc.Host), or(svc.Name), or(svc.Namespace),
		or(dst.CanonicalService), or(dst.CanonicalRevision), or(dst.Cluster),
		k.protocol.String(), k.flags.String(), security,
	)
	if k.protocol == TCP {
		return lv
	}
	grpc := ""
	if k.protocol == GRPC && k.grpc >= 0 {
		grpc = strconv.Itoa(int(k.grpc))
	}
	return append(lv, strconv.Itoa(int(k.code)), grpc)
}

func or(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}
