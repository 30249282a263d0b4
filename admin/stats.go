package admin

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
)

// stat is one value as Envoy's ?format=json lists it.
type stat struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
}

// listStats lists metrics whose name matches ?filter=, a regular expression, as
// "name{labels}: value" lines or, with ?format=json, in Envoy's form. Of a histogram the
// count is told.
func (s *Server) listStats(w http.ResponseWriter, r *http.Request) {
	if s.opts.Metrics == nil {
		http.NotFound(w, r)
		return
	}
	q := r.URL.Query()
	filter, err := regexp.Compile(q.Get("filter"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	format := q.Get("format")
	switch format {
	case "", "text", "json":
	case "prometheus":
		s.prometheus().ServeHTTP(w, r)
		return
	default:
		http.Error(w, fmt.Sprintf("unknown format %q: use text, json or prometheus", format), http.StatusBadRequest)
		return
	}
	families, _ := s.opts.Metrics.Gather()
	stats := []stat{}
	for _, f := range families {
		if !filter.MatchString(f.GetName()) {
			continue
		}
		for _, m := range f.GetMetric() {
			var v float64
			switch {
			case m.Counter != nil:
				v = m.Counter.GetValue()
			case m.Gauge != nil:
				v = m.Gauge.GetValue()
			case m.Histogram != nil:
				v = float64(m.Histogram.GetSampleCount())
			default:
				continue
			}
			stats = append(stats, stat{f.GetName() + labels(m.GetLabel()), v})
		}
	}
	if format == "json" {
		writeJSON(w, map[string]any{"stats": stats})
		return
	}
	for _, st := range stats {
		fmt.Fprintf(w, "%s: %v\n", st.Name, st.Value)
	}
}

// labels writes {name="value",...}.
func labels[P interface {
	GetName() string
	GetValue() string
}](pairs []P) string {
	var l strings.Builder
	l.WriteByte('{')
	for i, p := range pairs {
		if i > 0 {
			l.WriteByte(',')
		}
		fmt.Fprintf(&l, "%s=%q", p.GetName(), p.GetValue())
	}
	l.WriteByte('}')
	return l.String()
}
