// Package chart installs the Helm chart of deploy/chart in a real cluster: the chart
// is rendered by Helm's own engine, applied to a real API server with its validation
// and its RBAC, and the controller runs there with no more rights than the chart
// gives it.
//
// Data flow: the cluster is conformance/lab's; each test renders with its values and
// looks at what the API server then says. It is a module of its own so that nothing
// else follows Helm's dependencies.
package chart
