package proxy

import (
	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/resilience"
)

// backendState is what a backend's configuration changes leave alone: how much
// of it is in use, which of its hosts misbehave, whether its breaker is open.
type backendState struct {
	limits   resilience.Limits
	breaker  resilience.CircuitBreaker
	outliers *resilience.Detector
	waiting  waitList
}

// BackendState makes or updates the runtime state of a backend; it is the
// State hook of config.Env.
func BackendState(b *config.Backend, prev any) any {
	s, _ := prev.(*backendState)
	if s == nil {
		s = &backendState{outliers: resilience.NewDetector(nil)}
	}
	s.limits.Update(&b.Settings)
	s.breaker.Update(b.Settings.Breaker, nil)
	s.outliers.Update(b.Settings.Outlier, b.Endpoints)
	return s
}

// unlimited serves targets that no hook gave a state: workloads, and tests.
var unlimited = &backendState{outliers: resilience.NewDetector(nil)}

func stateOf(t *config.Target) *backendState {
	if s, _ := t.State().(*backendState); s != nil {
		return s
	}
	return unlimited
}

// connectionGone gives the place of a connection back.
func (s *backendState) connectionGone() {
	s.limits.ReleaseConnection()
	s.waiting.wake()
}
