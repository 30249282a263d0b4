// Package sandbox runs processes as the containers of pods: each pod has a network
// namespace with one address, each container a root file system of its own made of bind
// mounts. It is the part of a container runtime that a lab of static binaries needs; there
// are no images to pull, no cgroups and no user namespaces.
//
// Data flow: a [Net] is made first, then [Start] runs processes in it. The node side of
// every pod is a point-to-point veth with a host route, not a bridge, so that packets
// between pods are routed by the node.
//
// Namespaces are a property of threads. Everything that enters one does so on a goroutine
// locked to its thread: [Net.Do] comes back from there, a thread that has started a process
// stays until the process has ended, because the kernel kills the child of a dead thread
// that asked for it (Pdeathsig), and that is how nothing outlives the lab.
//
// All methods are safe for concurrent use. Root is needed.
package sandbox
