// Package kubelet runs the pods of one node as processes in network namespaces. It does
// for a lab what a kubelet, a scheduler and a container runtime do for a cluster: binds
// pods, starts and restarts their containers, mounts their volumes, probes them, answers
// exec and log requests of the API server and reports status.
//
// Data flow: a watch of pods gives each pod a worker, which owns the pod's network and
// containers from its first sight until it has gone. Image names are looked up in a table
// of [Image]; nothing is pulled. [Config.Attach] is the CNI plugin's place.
//
// What is left out fails visibly: a pod that asks for an unknown volume type, image or
// probe stays pending with the reason in its status.
//
// Concurrency: a Kubelet is safe for concurrent use; everything of a pod belongs to its
// worker's goroutine but for what is behind the pod's mutex.
package kubelet
