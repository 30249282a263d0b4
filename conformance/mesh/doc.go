// Package mesh runs the Gateway API's official mesh conformance suite, and tests of what
// that suite does not look at, against the waypoint and its controller in a lab: a real
// API server, real pods as processes, real HBONE (package lab).
//
// Data flow: TestMain moves the test binary into namespaces of its own, builds what is
// missing, starts one lab, installs the controller with its chart and waits for a Gateway
// of class waypoint; the tests share it, one after another.
//
// TestSuite writes the report to docs/conformance when REPORT is set to a folder.
package mesh
