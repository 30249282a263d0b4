// Package measure runs the processes that a benchmark is about and reads off what
// they used: CPU, memory and system calls from /proc, allocations from the waypoint's
// own admin port.
//
// Data flow: [StartWaypoint] and [StartBackend] start a binary with an identity in
// files and return when it serves; the benchmark drives both by package load and asks
// the [PID] before and behind. Figures of a process that is gone are 0.
//
// Every process is killed with the one that started it. All methods are safe for
// concurrent use but End; none is made to be fast.
package measure
