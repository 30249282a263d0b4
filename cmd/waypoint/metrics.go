package main

import "github.com/prometheus/client_golang/prometheus"

func gauge(name, help string) *prometheus.Desc { return prometheus.NewDesc(name, help, nil, nil) }

var (
	descTunnels  = gauge("waypoint_tunnels_active", "Tunnels open from clients.")
	descUpdates  = gauge("waypoint_config_updates_total", "Configurations applied.")
	descErrors   = gauge("waypoint_config_errors", "Objects of the current configuration that were refused; what serves instead is their last good version, or nothing.")
	descPanics   = gauge("waypoint_panics_total", "Panics contained to one tunnel. Each is a bug and was logged.")
	descCertEnds = gauge("waypoint_certificate_expiration_timestamp_seconds", "When the waypoint's own certificate ends.")
)

// Describe implements prometheus.Collector.
func (in *instance) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descTunnels, descUpdates, descErrors, descPanics, descCertEnds} {
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
	if s := in.ids.SVID(); s != nil {
		send(descCertEnds, prometheus.GaugeValue, float64(s.NotAfter.Unix()))
	}
}
