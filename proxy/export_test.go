package proxy

import (
	"net"
	"net/netip"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/hbone"
)

// What the tests of package proxy_test share with those inside.
const (
	VIP        = vip
	BrowserGet = browserGet
)

// AutoModel serves cart at an undeclared port.
func AutoModel(eps ...netip.AddrPort) *config.Model {
	return cartModel(func(m *config.Model) {
		addBackend(m, "cart.shop.svc.cluster.local|80", config.ProtocolAuto, eps...)
		m.Destinations[0].Protocol = config.ProtocolAuto
	})
}

// NetConn is c as a net.Conn.
func NetConn(c hbone.Conn) net.Conn { return newNetConn(c, nil) }
