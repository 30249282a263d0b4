// Package originate does what a backend asks for around the bytes of a
// connection: a PROXY protocol header, then TLS. Both run on any hbone.Conn, so
// inside a tunnel as on plain TCP.
//
// An [Origin] is made from a backend's configuration and is safe for concurrent
// use. Its files are looked at for each connection and read again when they
// changed. While one is missing or broken, those read before go on to serve, which is
// logged once; without any the connection fails, before any byte of a request has
// left.
package originate
