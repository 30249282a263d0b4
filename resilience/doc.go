// Package resilience holds what keeps a slow, failing or vanished backend from
// costing callers more than it must: timeouts, retries and budgets, circuit
// breaking, outlier detection, rate limits and fault injection. Package balance
// below it picks endpoints.
//
// Data flow: config compiles DestinationRules, routes and Envoy clusters into
// the settings here; the proxy acquires limits, asks for a retry verdict and
// reports results. State that must survive a configuration change ([Host],
// limits, breakers) lives in objects keyed by stable names.
//
// It imports only internal leaves. Acquire, verdict and report do not allocate.
package resilience
