// Package lab is a Kubernetes cluster of one node without containers, images or Docker: a
// real etcd, kube-apiserver and kube-controller-manager, a kubelet that runs pods as
// processes in network namespaces, DNS, kube-proxy, and a node proxy that speaks HBONE as
// Istio's ztunnel does. Its node is a network and mount namespace of its own, so that
// nothing of it is seen outside and nothing of it outlives its process.
//
// Data flow: [sandbox.Enter] moves the process into the node's namespaces, [Start] brings
// the cluster up there, and a caller works with the API server as with any other. Pods
// whose namespace or labels ask for ambient mode are proxied under certificates of the
// lab's own CA; waypoints get theirs through a CSI volume.
//
// Concurrency: a Lab is safe for concurrent use once Start has returned.
package lab
