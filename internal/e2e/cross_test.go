package e2e

import (
	"net/http"
	"testing"
)

// A client that speaks HTTP/2 reaches an application whose port declares HTTP/1.
func TestHTTP2ToHTTP1(t *testing.T) {
	m := newMesh(t)
	var p http.Protocols
	p.SetUnencryptedHTTP2(true)
	tr := &http.Transport{Protocols: &p}
	defer tr.CloseIdleConnections()
	m.http.Transport = tr
	a := m.ask("clients", 1, "GET", "/m/a")
	if s := a.one(t, m.v1); a.Proto != "HTTP/2.0" || s.Proto != "HTTP/1.1" {
		t.Errorf("client %s, application %s", a.Proto, s.Proto)
	}
}
