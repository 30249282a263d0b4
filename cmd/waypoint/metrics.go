package main

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"waypoint.dev/waypoint/resilience"
	"waypoint.dev/waypoint/xds"
)

func desc(name, help string) *prometheus.Desc { return prometheus.NewDesc(name, help, nil, nil) }

var (
	descTunnels  = desc("waypoint_tunnels_active", "Tunnels open from clients.")
	descUpdates  = desc("waypoint_config_updates_total", "Configurations applied.")
	descErrors   = desc("waypoint_config_errors", "Objects of the current configuration that were refused; what serves instead is their last good version, or nothing.")
	descPanics   = desc("waypoint_panics_total", "Panics contained to one tunnel. Each is a bug and was logged.")
	descEjected  = prometheus.NewDesc("waypoint_outlier_events_total", "What outlier detection did with endpoints.", []string{"event"}, nil)
	descCircuits = desc("waypoint_circuit_breakers_opened_total", "Times that an error-rate circuit breaker opened.")
	descOverflow = prometheus.NewDesc("waypoint_overflow_total", "Times that a limit of a backend was reached: of connections (HTTP waits then), pending, requests and retries.", []string{"limit"}, nil)
	descShed     = prometheus.NewDesc("waypoint_overload_shed_total", "Work refused, with 503 or for connections by closing them, since the process had too much of the resource.", []string{"resource"}, nil)
	descCertEnds = desc("waypoint_certificate_expiration_timestamp_seconds", "When the waypoint's own certificate ends.")
)

// Describe implements prometheus.Collector.
func (in *instance) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descTunnels, descUpdates, descErrors, descPanics, descEjected, descCircuits, descOverflow, descShed, descCertEnds} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (in *instance) Collect(ch chan<- prometheus.Metric) {
	send := func(d *prometheus.Desc, t prometheus.ValueType, v float64) {
		ch <- prometheus.MustNewConstMetric(d, t, v)
	}
	send(descTunnels, prometheus.GaugeValue, float64(in.proxy.Active()))
	send(descUpdates, prometheus.CounterValue, float64(in.compile.updates.Load()))
	send(descErrors, prometheus.GaugeValue, float64(in.compile.failed.Load()))
	send(descPanics, prometheus.CounterValue, float64(in.proxy.Panics()))
	send(descCircuits, prometheus.CounterValue, float64(in.events.Opened.Load()))
	for event, n := range map[string]uint64{"ejected": in.events.Ejections.Load(), "held_in": in.events.HeldIn.Load(), "returned": in.events.Returns.Load()} {
		ch <- prometheus.MustNewConstMetric(descEjected, prometheus.CounterValue, float64(n), event)
	}
	for limit, n := range map[string]*atomic.Uint64{"connections": &in.events.Refused.Connections, "pending": &in.events.Refused.Pending, "requests": &in.events.Refused.Requests, "retries": &in.events.Refused.Retries} {
		ch <- prometheus.MustNewConstMetric(descOverflow, prometheus.CounterValue, float64(n.Load()), limit)
	}
	shed(ch, resilience.Connections, uint64(in.server.Stats().OverLimit))
	for _, r := range []resilience.Resource{resilience.Streams, resilience.Requests, resilience.Pending, resilience.Bytes} {
		shed(ch, r, in.overload.Shed(r))
	}
	if s := in.ids.SVID(); s != nil {
		send(descCertEnds, prometheus.GaugeValue, float64(s.NotAfter.Unix()))
	}
}

func shed(ch chan<- prometheus.Metric, r resilience.Resource, n uint64) {
	ch <- prometheus.MustNewConstMetric(descShed, prometheus.CounterValue, float64(n), r.String())
}

var (
	descConnected = desc("waypoint_xds_connected", "1 while a stream to the control plane is open and has answered.")
	descStreams   = desc("waypoint_xds_streams_total", "Streams opened to the control plane.")
	descAcks      = desc("waypoint_xds_acks_total", "Responses taken.")
	descNacks     = desc("waypoint_xds_nacks_total", "Responses refused, in part or whole; the last good version of what they name serves.")
)

// streamMetrics shows the counters of the ADS client.
type streamMetrics struct{ client *xds.Client }

// Describe implements prometheus.Collector.
func (m streamMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descConnected, descStreams, descAcks, descNacks} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m streamMetrics) Collect(ch chan<- prometheus.Metric) {
	s, up := m.client.Stats(), 0.0
	if s.Connected {
		up = 1
	}
	ch <- prometheus.MustNewConstMetric(descConnected, prometheus.GaugeValue, up)
	ch <- prometheus.MustNewConstMetric(descStreams, prometheus.CounterValue, float64(s.Streams))
	ch <- prometheus.MustNewConstMetric(descAcks, prometheus.CounterValue, float64(s.Acks))
	ch <- prometheus.MustNewConstMetric(descNacks, prometheus.CounterValue, float64(s.Nacks))
}
