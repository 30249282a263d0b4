package feed

import "github.com/prometheus/client_golang/prometheus"

// metrics are the counters of a Server.
type metrics struct {
	responses, sent, refused, denied prometheus.Counter
	latency                          prometheus.Histogram
}

func newMetrics() metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	return metrics{
		responses: counter("waypoint_feed_responses_total", "Responses sent to waypoints."),
		sent:      counter("waypoint_feed_bytes_total", "Bytes of objects sent to waypoints."),
		refused:   counter("waypoint_feed_refused_total", "Responses that a waypoint refused, in part or whole; the last good version of what it names serves there."),
		denied:    counter("waypoint_feed_denied_total", "Streams refused since the caller did not prove that it may have the objects."),
		latency: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "waypoint_feed_change_seconds", Help: "From an object's change to its acknowledgement by a waypoint.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .2, .5, 1, 2.5, 5, 10},
		}),
	}
}

func (m *metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.responses, m.sent, m.refused, m.denied, m.latency}
}

func gauge(name, help string) *prometheus.Desc { return prometheus.NewDesc(name, help, nil, nil) }

var (
	descObjects = gauge("waypoint_feed_objects", "Objects in the store.")
	descBytes   = gauge("waypoint_feed_object_bytes", "Bytes of the objects in the store, as they are sent.")
	descTopics  = gauge("waypoint_feed_topics", "Entries of the index of what refers to what.")
	descStreams = gauge("waypoint_feed_streams", "Streams of waypoints.")
	descViews   = gauge("waypoint_feed_waypoints", "Gateways with a stream.")
	descMembers = gauge("waypoint_feed_concerns", "Objects that concern a Gateway, summed over Gateways.")
	descPending = gauge("waypoint_feed_pending", "Changes that wait for an acknowledgement, summed over streams.")
	descSynced  = gauge("waypoint_feed_synced", "1 once the store holds all there is.")
)

// Describe implements prometheus.Collector.
func (s *Server) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descObjects, descBytes, descTopics, descStreams, descViews, descMembers, descPending, descSynced} {
		ch <- d
	}
	for _, c := range s.metrics.all() {
		c.Describe(ch)
	}
}

// Collect implements prometheus.Collector.
func (s *Server) Collect(ch chan<- prometheus.Metric) {
	st := s.Stats()
	synced := 0
	if st.Synced {
		synced = 1
	}
	for d, v := range map[*prometheus.Desc]int{
		descObjects: st.Objects, descBytes: st.Bytes, descTopics: st.Topics, descStreams: st.Streams,
		descViews: st.Waypoints, descMembers: st.Concerns, descPending: st.Pending, descSynced: synced,
	} {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v))
	}
	for _, c := range s.metrics.all() {
		c.Collect(ch)
	}
}

// Stats say what a Server holds.
type Stats struct {
	Objects, Bytes, Topics, Streams, Waypoints, Concerns, Pending int
	Synced                                                        bool
}

// Stats returns what the server holds now.
func (s *Server) Stats() Stats {
	t := s.store
	t.mu.Lock()
	defer t.mu.Unlock()
	st := Stats{Objects: t.count, Bytes: int(t.bytes), Topics: len(t.index.filed), Streams: int(s.streams.Load()), Synced: t.synced}
	for _, v := range t.views {
		if len(v.sessions) > 0 {
			st.Waypoints++
		}
		st.Concerns += len(v.members)
		st.Topics += len(v.wants)
		for x := range v.sessions {
			st.Pending += len(x.pending) + len(x.batch)
		}
	}
	return st
}
