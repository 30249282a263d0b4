package envoy

// limit sets a cluster's circuit breakers.
func (p Pool) limit(cluster Object) {
	t := get(cluster, "circuit_breakers", "thresholds", 0).(Object)
	for name, n := range map[string]int{"max_connections": p.MaxConnections, "max_pending_requests": p.MaxPending, "max_requests": p.MaxRequests, "max_retries": p.MaxRetries} {
		if n > 0 {
			t[name] = n
		}
	}
}

// kube is the DestinationRule of a service, nil where nothing is limited.
func (p Pool) kube(w *World, s *Subject) Object {
	if p == (Pool{}) {
		return nil
	}
	return w.object("networking.istio.io/v1", "DestinationRule", s.Name, Object{"spec": Object{"host": s.Name, "trafficPolicy": Object{"connectionPool": Object{
		"tcp":  Object{"maxConnections": p.MaxConnections},
		"http": Object{"http1MaxPendingRequests": p.MaxPending, "http2MaxRequests": p.MaxRequests, "maxRetries": p.MaxRetries},
	}}}}, nil)
}
