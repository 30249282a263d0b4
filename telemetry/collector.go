package telemetry

import (
	"strconv"

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

var (
	descRequests = desc("istio_requests_total", "Requests handled.", httpLabels)
	descDuration = desc("istio_request_duration_milliseconds", "Duration of requests.", httpLabels)
	descReqBytes = desc("istio_request_bytes", "Body sizes of requests.", httpLabels)
	descResBytes = desc("istio_response_bytes", "Body sizes of responses.", httpLabels)
	descReqMsgs  = desc("istio_request_messages_total", "gRPC messages received from clients.", httpLabels)
	descResMsgs  = desc("istio_response_messages_total", "gRPC messages sent to clients.", httpLabels)
	descOpened   = desc("istio_tcp_connections_opened_total", "TCP connections opened.", labels)
	descClosed   = desc("istio_tcp_connections_closed_total", "TCP connections closed.", labels)
	descTCPSent  = desc("istio_tcp_sent_bytes_total", "Bytes sent to clients on TCP connections.", labels)
	descTCPRecv  = desc("istio_tcp_received_bytes_total", "Bytes received from clients on TCP connections.", labels)
	descBuild    = desc("istio_build", "Version of this proxy.", []string{"component", "tag"})
	descActive   = desc("waypoint_exchanges_active", "Requests and connections under way.", nil)
	descLogLost  = desc("waypoint_access_log_lost_total", "Access-log lines dropped because the sink could not keep up.", nil)
)

// Describe sends nothing: the collector is unchecked, as label sets come and go.
func (r *Reporter) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (r *Reporter) Collect(ch chan<- prometheus.Metric) {
	ch <- prometheus.MustNewConstMetric(descBuild, prometheus.GaugeValue, 1, "proxy", r.opts.Build)
	ch <- prometheus.MustNewConstMetric(descActive, prometheus.GaugeValue, float64(r.active.Load()))
	if r.opts.Log != nil {
		ch <- prometheus.MustNewConstMetric(descLogLost, prometheus.CounterValue, float64(r.opts.Log.Lost()))
	}
	r.denied.collect(ch)
	// The same labels may stand in several parts of the registry: one for each
	// shard of tunnels that saw them. They are summed before they are sent.
	sums := map[seriesKey]*sum{}
	r.reg.each(func(s *series) {
		k := seriesKey{s.pairKey, s.outcome}
		t := sums[k]
		if t == nil {
			t = &sum{}
			sums[k] = t
		}
		t.add(s)
	})
	for k, t := range sums {
		t.send(ch, k)
	}
}

type seriesKey struct {
	pairKey
	outcome
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

func (t *sum) send(ch chan<- prometheus.Metric, k seriesKey) {
	counter := func(d *prometheus.Desc, v uint64, lv []string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), lv...)
	}
	lv := k.labels()
	if k.protocol == TCP {
		counter(descOpened, t.opened, lv)
		counter(descClosed, t.closed, lv)
		counter(descTCPRecv, t.tcpRecv, lv)
		counter(descTCPSent, t.tcpSent, lv)
		return
	}
	grpc := ""
	if k.protocol == GRPC && k.grpc >= 0 {
		grpc = strconv.Itoa(int(k.grpc))
	}
	lv = append(lv, strconv.Itoa(int(k.code)), grpc)
	counter(descRequests, t.requests, lv)
	if k.protocol == GRPC {
		counter(descReqMsgs, t.reqMsgs, lv)
		counter(descResMsgs, t.resMsgs, lv)
	}
	hist := func(d *prometheus.Desc, h *histSum) {
		cum, n := make(map[float64]uint64, len(buckets)), uint64(0)
		for i, b := range buckets {
			n += h.counts[i]
			cum[b] = n
		}
		n += h.counts[len(buckets)]
		ch <- prometheus.MustNewConstHistogram(d, n, float64(h.sum)/1000, cum, lv...)
	}
	hist(descDuration, &t.duration)
	hist(descReqBytes, &t.received)
	hist(descResBytes, &t.sent)
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
	return []string{
		"waypoint",
		or(src.Workload), or(src.Namespace), or(src.Principal), or(src.App), or(src.Version),
		or(src.CanonicalService), srcRev, or(src.Cluster),
		or(dst.Workload), or(dst.Namespace), or(dst.Principal), or(dst.App), or(dst.Version),
		or(svc.Host), or(svc.Name), or(svc.Namespace),
		or(dst.CanonicalService), or(dst.CanonicalRevision), or(dst.Cluster),
		k.protocol.String(), k.flags.String(), security,
	}
}

func or(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}
