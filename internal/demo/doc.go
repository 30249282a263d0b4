// Package demo runs the shop example: a CA, node proxies, three pods of a cart
// service and the real waypoint as a process of its own, all on loopback; then
// it takes a tour of requests and prints what became of each.
//
// Data flow: every request carries an id of its own. What the table says of
// backend and status comes from the applications and the client; the policy or
// route that decided comes from the waypoint's access log, found by that id.
//
// [Run] returns nil only if every row is as expected.
package demo
