// Package ztunnel is a node proxy for a lab: it does for the pods of one node what
// Istio's ztunnel does, as far as a waypoint can tell.
//
// Data flow: [Proxy.Attach] opens listeners inside a pod's network namespace and redirects
// the connections that the pod opens to one of them. A connection to a Service, or to a
// pod, goes through the waypoint that its destination chose, or straight to the pod's own
// node proxy, or as it is: the first two in HBONE, an HTTP/2 CONNECT stream inside mutual
// TLS under the pod's own identity. The other listener takes HBONE for the pod and
// delivers it.
//
// HTTP/2 is golang.org/x/net/http2, TLS is crypto/tls, and nothing is shared with the
// waypoint's own implementation of either end.
//
// Concurrency: a Proxy is safe for concurrent use; each connection has two goroutines.
package ztunnel
