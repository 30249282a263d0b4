package hbone

import (
	"errors"
	"net/netip"
	"strings"
)

// ErrAuthority is returned for a CONNECT authority that names no destination.
var ErrAuthority = errors.New("hbone: authority is neither ip:port nor host:port")

// maxHost is the longest DNS name (RFC 1035 section 2.3.4).
const maxHost = 253

// ParseAuthority splits a CONNECT authority: a socket address first, otherwise
// a host name and a port, which is mandatory (as ztunnel does). Exactly one of
// addr and host is set. IPv6 stands in brackets, has no zone, and an
// IPv4-mapped address comes out as IPv4. A host is lower case, without a
// trailing dot.
func ParseAuthority(s string) (addr netip.AddrPort, host string, port uint16, err error) {
	i := strings.LastIndexByte(s, ':')
	if i <= 0 {
		return addr, "", 0, ErrAuthority
	}
	port, ok := parsePort(s[i+1:])
	if !ok {
		return addr, "", 0, ErrAuthority
	}
	host = s[:i]
	if host[0] == '[' {
		if host[len(host)-1] != ']' {
			return addr, "", 0, ErrAuthority
		}
		ip, err := netip.ParseAddr(host[1 : len(host)-1])
		if err != nil || !ip.Is6() || ip.Zone() != "" {
			return addr, "", 0, ErrAuthority
		}
		return netip.AddrPortFrom(ip.Unmap(), port), "", port, nil
	}
	if ip, err := parseIPv4(host); err == nil {
		return netip.AddrPortFrom(ip, port), "", port, nil
	}
	if host, ok = cleanHost(host); !ok {
		return addr, "", 0, ErrAuthority
	}
	return addr, host, port, nil
}

// parseIPv4 spares host names the error that netip.ParseAddr allocates.
func parseIPv4(s string) (netip.Addr, error) {
	for i := range len(s) {
		if s[i] != '.' && (s[i] < '0' || s[i] > '9') {
			return netip.Addr{}, ErrAuthority
		}
	}
	return netip.ParseAddr(s)
}

// parsePort accepts 1 to 65535, digits only, without leading zeros.
func parsePort(s string) (uint16, bool) {
	if s == "" || len(s) > 5 || s[0] == '0' {
		return 0, false
	}
	n := 0
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = n*10 + int(s[i]-'0')
	}
	return uint16(n), n <= 65535
}

// cleanHost checks a DNS name. Its last label must not be a number: resolvers
// read such names as addresses ("127.1", "0x7f.1", "2130706433").
func cleanHost(s string) (string, bool) {
	s = strings.TrimSuffix(s, ".")
	if s == "" || len(s) > maxHost {
		return "", false
	}
	label, upper := 0, false
	for i := range len(s) {
		switch c := s[i]; {
		case c == '.':
			if i == label || s[i-1] == '-' {
				return "", false
			}
			label = i + 1
		case c == '-' && i == label:
			return "", false
		case 'A' <= c && c <= 'Z':
			upper = true
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_':
		default:
			return "", false
		}
		if i-label >= 63 {
			return "", false
		}
	}
	last := s[label:]
	if last == "" || last[len(last)-1] == '-' || '0' <= last[0] && last[0] <= '9' {
		return "", false
	}
	if upper {
		s = strings.ToLower(s)
	}
	return s, true
}
