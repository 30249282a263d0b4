// Package dns answers the cluster's names: A records of Services, by cluster IP or, for
// headless ones, by the addresses of their ready endpoints. Everything else does not exist.
//
// One goroutine serves one UDP socket; answers come from the listers of a [cluster.View].
package dns
