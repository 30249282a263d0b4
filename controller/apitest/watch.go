package apitest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// watch streams events, at first the objects there are if it is asked to.
func (s *Server) watch(w http.ResponseWriter, r *http.Request, p Place) {
	q := r.URL.Query()
	from, _ := strconv.ParseInt(q.Get("resourceVersion"), 10, 64)
	s.mu.Lock()
	epoch := s.epoch
	var first []any
	switch {
	case q.Get("sendInitialEvents") == "true":
		first = s.selected(p, r)
		if first == nil {
			first = []any{}
		}
		from = s.version
	case from == 0:
		from = s.version
	case from < s.compacted:
		s.mu.Unlock()
		answer(w, nil, apierrors.NewResourceExpired(fmt.Sprintf("too old resource version: %d (%d)", from, s.compacted)))
		return
	}
	s.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	out := json.NewEncoder(w)
	send := func(kind string, o any) bool {
		if out.Encode(Object{"type": kind, "object": o}) != nil {
			return false
		}
		w.(http.Flusher).Flush()
		return true
	}
	w.WriteHeader(http.StatusOK)
	w.(http.Flusher).Flush()
	if first != nil {
		for _, o := range first {
			send("ADDED", o)
		}
		kind := "Bookmark"
		if len(first) > 0 {
			kind = text(first[0].(map[string]any)["kind"])
		} else if k, ok := kinds[p.Resource]; ok {
			kind = k
		}
		send("BOOKMARK", Object{"kind": kind, "apiVersion": p.apiVersion(), "metadata": Object{
			"resourceVersion": strconv.FormatInt(from, 10), "annotations": Object{"k8s.io/initial-events-end": "true"}}})
	}
	for {
		s.mu.Lock()
		changed := s.changed
		var news []event
		for _, e := range s.events {
			if e.version > from && p.covers(e.place) && matches(e.object, r) {
				news = append(news, e)
			}
		}
		if n := len(s.events); n > 0 {
			from = max(from, s.events[n-1].version)
		}
		s.mu.Unlock()
		for _, e := range news {
			if !send(e.kind, e.object) {
				return
			}
		}
		select {
		case <-changed:
		case <-epoch:
			return
		case <-r.Context().Done():
			return
		}
	}
}

// kinds are those of core resources, of which a bookmark must be.
var kinds = map[string]string{
	"namespaces": "Namespace", "nodes": "Node", "services": "Service", "pods": "Pod", "configmaps": "ConfigMap",
	"endpointslices": "EndpointSlice", "secrets": "Secret", "serviceaccounts": "ServiceAccount",
}
