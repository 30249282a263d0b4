package telemetry

import (
	"fmt"
	"slices"
	"strings"
)

// metric is one of Istio's standard metrics.
type metric uint8

const (
	requests metric = iota
	duration
	requestBytes
	responseBytes
	requestMessages
	responseMessages
	tcpOpened
	tcpClosed
	tcpSent
	tcpReceived
	metricCount
)

// metricNames are what Istio's settings call them: without the prefix istio_.
var metricNames = [metricCount]string{
	"requests_total", "request_duration_milliseconds", "request_bytes", "response_bytes", "request_messages_total", "response_messages_total",
	"tcp_connections_opened_total", "tcp_connections_closed_total", "tcp_sent_bytes_total", "tcp_received_bytes_total",
}

// MetricChange changes one of Istio's metrics, or all of them.
type MetricChange struct {
	Metric string            // "requests_total"; empty: all
	Drop   bool              // do not export it
	Set    map[string]string // labels, and the expressions that they get their values from
	Remove []string          // labels
}

// Metrics are the changes that one source asks for. It is immutable.
type Metrics struct {
	values []*Expression // nil: one that is not understood
	of     [metricCount]changes
}

type changes struct {
	drop   bool
	remove []string
	set    []label // in the order of their names
}

// label gets its value from an expression.
type label struct {
	name  string
	value int // of Metrics.values
}

// CompileMetrics compiles changes, which apply in order. An expression that is not
// understood gives the label the value "unknown" and is returned as an error.
func CompileMetrics(in []MetricChange) (*Metrics, []error) {
	m := &Metrics{}
	var errs []error
	known := map[string]int{}
	index := func(text string) int {
		i, ok := known[text]
		if !ok {
			e, err := CompileExpression(text)
			if err != nil {
				errs = append(errs, err)
			}
			i = len(m.values)
			m.values, known[text] = append(m.values, e), i
		}
		return i
	}
	for _, c := range in {
		found := false
		for i, name := range metricNames {
			if c.Metric == "" || c.Metric == name {
				m.of[i].apply(c, index)
				found = true
			}
		}
		if !found {
			errs = append(errs, fmt.Errorf("the metric %q is not known", c.Metric))
		}
	}
	return m, errs
}

func (m *changes) apply(c MetricChange, index func(string) int) {
	m.drop = m.drop || c.Drop
	for name, text := range c.Set {
		m.set = append(slices.DeleteFunc(m.set, func(l label) bool { return l.name == name }), label{name, index(text)})
		m.remove = slices.DeleteFunc(m.remove, func(n string) bool { return n == name })
	}
	for _, name := range c.Remove {
		m.set = slices.DeleteFunc(m.set, func(l label) bool { return l.name == name })
		m.remove = append(m.remove, name)
	}
	slices.SortFunc(m.set, func(a, b label) int { return strings.Compare(a.name, b.name) })
}

// valueEnd stands behind each value of a series' own labels.
const valueEnd = '\x00'

// ReadsResponse reports whether an expression reads headers of the response.
func (m *Metrics) ReadsResponse() bool {
	return slices.ContainsFunc(m.values, func(e *Expression) bool { return e != nil && e.response })
}

// append writes the values of all expressions.
func (m *Metrics) append(b []byte, r *Record) []byte {
	for _, e := range m.values {
		from, ok := len(b), false
		if e != nil {
			b, ok = e.append(b, r)
		}
		if !ok {
			b = append(b[:from], "unknown"...)
		}
		for i := from; i < len(b); i++ {
			if b[i] == valueEnd {
				b[i] = '?'
			}
		}
		b = append(b, valueEnd)
	}
	return b
}

// labels changes the labels of a metric; values are what append wrote.
func (m *Metrics) labels(of metric, names, vs []string, values string) (n, v []string) {
	c := &m.of[of]
	n, v = make([]string, 0, len(names)+len(c.set)), make([]string, 0, len(names)+len(c.set))
	for i, name := range names {
		if !slices.Contains(c.remove, name) {
			n, v = append(n, name), append(v, vs[i])
		}
	}
	all := strings.Split(values, string(valueEnd))
	for _, l := range c.set {
		val := "unknown"
		if l.value < len(all)-1 {
			val = strings.ToValidUTF8(all[l.value], "\uFFFD")
		}
		if i := slices.Index(n, l.name); i >= 0 {
			v[i] = val
		} else {
			n, v = append(n, l.name), append(v, val)
		}
	}
	return n, v
}
