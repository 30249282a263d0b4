package kube

import (
	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/resilience"
)

func (r *build) retryConstraint(s *service) *resilience.RetryBudget { return nil }
func (r *build) ownSettings(b *config.Backend, s *service)          {}
