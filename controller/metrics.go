package controller

import (
	"github.com/prometheus/client_golang/prometheus"

	"waypoint.dev/waypoint/controller/provision"
	"waypoint.dev/waypoint/controller/status"
	"waypoint.dev/waypoint/controller/watch"
)

var (
	descLeader    = desc("waypoint_controller_leader", "1 in the replica that writes.")
	descWatched   = desc("waypoint_controller_watched_objects", "Objects that are watched, by kind.", "kind")
	descLists     = desc("waypoint_controller_lists_total", "Lists that were read, the first ones included; they grow as watches expire.")
	descWrites    = desc("waypoint_controller_status_writes_total", "Statuses that were written.")
	descConflicts = desc("waypoint_controller_status_conflicts_total", "Status writes that another controller's crossed; they were merged again.")
	descFailures  = desc("waypoint_controller_status_failures_total", "Status writes that failed; they are tried again.")
	descBuild     = desc("waypoint_controller_build_seconds", "Time that the last judgement of changes took, at all Gateways that they concern.")
	descBuilds    = desc("waypoint_controller_builds_total", "Builds of Gateways whose routes and policies are judged; a change makes one for each Gateway that it concerns.")
	descGateways  = desc("waypoint_controller_gateways", "Gateways of our classes.")
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

// collector shows what the parts count.
type collector struct {
	election *election
	watcher  *watch.Watcher
	engine   *status.Engine
	maker    *provision.Reconciler
}

func (c collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descLeader, descWatched, descLists, descWrites, descConflicts, descFailures, descBuild, descBuilds, descGateways} {
		ch <- d
	}
}

func (c collector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v int64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v))
	}
	leading := 0.0
	if c.election.leading.Load() {
		leading = 1
	}
	gauge(descLeader, leading)
	objects, lists := c.watcher.Counts()
	for kind, n := range objects {
		gauge(descWatched, float64(n), kind)
	}
	counter(descLists, lists)
	st := c.engine.Stats()
	counter(descWrites, st.Writes)
	counter(descConflicts, st.Conflicts)
	counter(descFailures, st.Failures)
	counter(descBuilds, st.Builds)
	gauge(descBuild, st.LastBuild.Seconds())
	gauge(descGateways, float64(len(c.maker.Gateways())))
}
