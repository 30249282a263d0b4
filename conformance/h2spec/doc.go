// Package h2spec runs h2spec v2.2.1, the conformance suite for HTTP/2 servers,
// against the engine of hbone/h2 in both of its uses.
//
// As the server of the HTTP/2 inside a tunnel ([Web]) it must pass every case.
// As the server of CONNECT tunnels ([Tunnels]) it cannot pass those that need an
// answer to GET or POST; they are listed with the reason in connect.txt, and a
// listed case that passes is an error.
//
// It is a module of its own, so that the suite is no dependency of the proxy.
// Run it with go test.
package h2spec
