package config

import (
	"fmt"
	"net/netip"
	"strings"
)

// enter puts a chain into the lookup tables. Of two claims the first stands.
func (c *compiler) enter(ch *Chain) {
	s, d := c.next, ch.Spec
	for _, p := range d.Addrs {
		if !p.IsValid() {
			continue
		}
		if a := p.Addr().Unmap().WithZone(""); p.IsSingleIP() {
			k := netip.AddrPortFrom(a, d.Port)
			if d.Workload {
				k = netip.AddrPortFrom(a, 0)
			}
			if old := s.byAddr[k]; old != nil {
				c.claimed(d, k.String(), old)
				continue
			}
			s.byAddr[k] = ch
		} else if old := s.byPrefix.add(p, d.Port, ch); old != nil {
			c.claimed(d, p.String(), old)
		}
	}
	for _, h := range d.Hosts {
		m, h := s.byHost, strings.TrimSuffix(strings.ToLower(h), ".")
		if strings.HasPrefix(h, "*.") {
			m, h = s.bySuffix, h[1:]
		}
		k := hostPort{h, d.Port}
		if old := m[k]; old != nil {
			c.claimed(d, fmt.Sprintf("%s:%d", h, d.Port), old)
			continue
		}
		m[k] = ch
	}
}

func (c *compiler) claimed(d *Destination, what string, by *Chain) {
	c.problem(d, "addresses", fmt.Sprintf("%s belongs to %s already, which serves it", what, by.Spec.Key))
}
