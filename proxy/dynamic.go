package proxy

import (
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/resilience/balance"
)

const (
	// dynamicHosts is Envoy's default of a DNS cache's max_hosts, and dynamicTTL
	// that of its host_ttl.
	dynamicHosts = 1024
	dynamicTTL   = 5 * time.Minute
	// maxHostname is the longest name of DNS (RFC 1035 section 2.3.4).
	maxHostname = 253

	portHTTP, portHTTPS = 80, 443
)

// dynamicSet remembers the endpoints of a backend that requests named, so that
// their connections are used again. Names are the clients' choice: no more than a
// bound are kept, and the one wanted least recently makes room. The zero value is
// ready.
type dynamicSet struct {
	mu sync.Mutex
	m  map[string]*dynamicHost // guarded by mu: by "host:port"
}

type dynamicHost struct {
	ep   *balance.Endpoint // immutable
	used time.Time         // guarded by dynamicSet.mu
}

// named returns the endpoint that authority asks for; nil if it may not be asked
// for, or is no name. port is what an authority without one means.
func (p *Proxy) named(st *backendState, d *config.Dynamic, authority string, port uint16) *balance.Endpoint {
	host, port, ok := splitAuthority(authority, port)
	if !ok || !matchesHost(d.Host, host) {
		return nil
	}
	if a, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		to := netip.AddrPortFrom(a.Unmap(), port)
		if p.opts.Guard.Check(to.Addr()) != nil {
			return nil
		}
		return p.chosen(to)
	}
	limit := d.MaxHosts
	if limit <= 0 {
		limit = dynamicHosts
	}
	return st.dynamic.get(host, port, limit)
}

func (s *dynamicSet) get(host string, port uint16, limit int) *balance.Endpoint {
	now := time.Now()
	var buf [maxHostname + 6]byte
	key := append(append(buf[:0], host...), ':')
	key = strconv.AppendUint(key, uint64(port), 10)
	s.mu.Lock()
	defer s.mu.Unlock()
	if h := s.m[string(key)]; h != nil {
		h.used = now
		return h.ep
	}
	if s.m == nil {
		s.m = make(map[string]*dynamicHost)
	}
	s.makeRoomLocked(now, limit)
	name := string(key)
	h := &dynamicHost{used: now, ep: &balance.Endpoint{
		Key: name, Hostname: name[:len(host)], Named: true, Addr: netip.AddrPortFrom(netip.Addr{}, port), Host: new(balance.Host),
	}}
	s.m[name] = h
	return h.ep
}

// makeRoomLocked forgets names that were not wanted for a while, and if that is not
// enough the one wanted least recently. What is under way to it goes on.
func (s *dynamicSet) makeRoomLocked(now time.Time, limit int) {
	var oldest string
	var at time.Time
	for name, h := range s.m {
		if now.Sub(h.used) >= dynamicTTL && h.ep.Host.Active.Load() == 0 {
			s.forgetLocked(name)
			continue
		}
		if oldest == "" || h.used.Before(at) {
			oldest, at = name, h.used
		}
	}
	if len(s.m) >= limit {
		s.forgetLocked(oldest)
	}
}

func (s *dynamicSet) forgetLocked(name string) {
	s.m[name].ep.Host.Gone.Store(true) // its idle connections close
	delete(s.m, name)
}

// splitAuthority reads host[:port] of a request, the host in lower case.
func splitAuthority(s string, port uint16) (string, uint16, bool) {
	host := s
	if i := strings.LastIndexByte(s, ':'); i >= 0 && !strings.HasSuffix(s, "]") {
		n, err := strconv.ParseUint(s[i+1:], 10, 16)
		if err != nil {
			return "", 0, false
		}
		host, port = s[:i], uint16(n)
	}
	host = strings.TrimSuffix(host, ".")
	if host == "" || len(host) > maxHostname || port == 0 {
		return "", 0, false
	}
	return strings.ToLower(host), port, true
}

// matchesHost reports whether name is one of a wildcard host's: "*.example.com"
// has everything below example.com, "*" everything.
func matchesHost(pattern, name string) bool {
	suffix, wild := strings.CutPrefix(pattern, "*")
	if !wild {
		return strings.EqualFold(pattern, name)
	}
	return len(name) > len(suffix) && strings.EqualFold(name[len(name)-len(suffix):], suffix)
}
