// Package resilience holds what keeps a slow, failing or vanished backend from
// costing callers more than it must. Package balance below it picks endpoints.
//
// Data flow, for one request: [Fault.Draw], [Limiter.Allow] and [Overload] at the
// door; [CircuitBreaker.Allow] and [Limits] of the backend it is routed to;
// balance's Set.Pick for each try; [Detector.Report] and [Retry.Verdict] with the
// try's [Outcome]; then [Retry.Delay], [Limits.AcquireRetry] and the next try,
// whose body comes from memory granted by [ReplayBudget].
// For configuration: sources compile DestinationRules, routes and Envoy clusters
// into [Settings], [Retry], [Fault] and [RateLimit].
//
// State that must survive a configuration change lives in objects keyed by stable
// names and updated in place: Limits, CircuitBreaker and Detector per backend,
// balance.Host per endpoint.
//
// Concurrency: everything is safe for concurrent use, mostly by single atomics; a
// Detector locks when a host reaches a threshold, a CircuitBreaker on every
// request while it is on. There are no goroutines; a Detector's timer runs only
// while it has something to sweep. Time is package time's, so tests use synctest;
// randomness is passed in.
//
// Allocation: acquires, releases, verdicts, delays, draws and reports do not
// allocate, an enabled CircuitBreaker aside. It imports only internal leaves.
package resilience
