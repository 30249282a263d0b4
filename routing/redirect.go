package routing

import (
	"fmt"
	"strconv"
	"strings"

	"waypoint.dev/waypoint/internal/attrs"
)

// Code returns the status: 302 where none is given (Gateway API default).
func (d *Redirect) Code() int {
	if d.Status == 0 {
		return 302
	}
	return d.Status
}

func (d *Redirect) check() error {
	switch d.Code() {
	case 301, 302, 303, 307, 308:
	default:
		return fmt.Errorf("status %d is no redirect", d.Status)
	}
	switch {
	case d.Scheme != "" && !validScheme(d.Scheme):
		return fmt.Errorf("invalid scheme %q", d.Scheme)
	case d.Host != "" && !validHost(d.Host):
		return fmt.Errorf("invalid host %q", d.Host)
	case d.Port < 0 || d.Port > 65535:
		return fmt.Errorf("invalid port %d", d.Port)
	case d.FullPath != nil && d.PrefixReplace != nil:
		return fmt.Errorf("both full path and prefix")
	case d.FullPath != nil && !validPathText(*d.FullPath), d.PrefixReplace != nil && !validPathText(*d.PrefixReplace):
		return fmt.Errorf("path has a byte that no path may hold")
	}
	return nil
}

// validScheme follows RFC 3986 section 3.1.
func validScheme(s string) bool {
	for i := range len(s) {
		c := lower(s[i])
		if !('a' <= c && c <= 'z' || i > 0 && ('0' <= c && c <= '9' || c == '+' || c == '-' || c == '.')) {
			return false
		}
	}
	return s != ""
}

// AppendLocation appends the absolute URL of the Location header. matched is
// [Result].Prefix, port the service port the request came to (0: unknown). The query
// is kept unless FullPath brings its own.
func (d *Redirect) AppendLocation(dst []byte, r *attrs.Request, matched int, port uint16) []byte {
	scheme := d.Scheme
	if scheme == "" {
		scheme = r.Scheme
	}
	if scheme == "" {
		scheme = "http"
	}
	dst = append(dst, scheme...)
	dst = append(dst, "://"...)
	dst = d.appendHost(dst, r, scheme, port)
	start := len(dst)
	query := r.HasQuery
	switch {
	case d.FullPath != nil:
		dst = append(dst, *d.FullPath...)
		query = query && strings.IndexByte(*d.FullPath, '?') < 0
	case d.PrefixReplace != nil && d.RawPrefix:
		dst = append(dst, *d.PrefixReplace...)
		dst = appendSafe(dst, tail(r.Path, matched))
	case d.PrefixReplace != nil:
		dst = append(dst, strings.TrimSuffix(*d.PrefixReplace, "/")...)
		rest := tail(r.Path, matched)
		if rest != "" && rest[0] != '/' {
			dst = append(dst, '/')
		}
		dst = appendSafe(dst, rest)
	default:
		dst = appendSafe(dst, r.Path)
	}
	dst = rooted(dst, start)
	if query {
		dst = append(dst, '?')
		dst = appendSafe(dst, r.Query)
	}
	return dst
}

func (d *Redirect) appendHost(dst []byte, r *attrs.Request, scheme string, listener uint16) []byte {
	host, own := splitPort(r.Authority)
	if d.Host != "" {
		host, own = d.Host, ""
	}
	dst = appendSafe(dst, host)
	if d.AuthorityPort {
		switch {
		case d.Port != 0:
			dst = append(dst, ':')
			return strconv.AppendInt(dst, int64(d.Port), 10)
		case own == "" || scheme != r.Scheme && own == defaultPort(r.Scheme):
			return dst
		}
		dst = append(dst, ':')
		return appendSafe(dst, own)
	}
	port := uint16(d.Port)
	if port == 0 && d.Scheme == "" {
		port = listener
	}
	if port == 0 || scheme == "http" && port == 80 || scheme == "https" && port == 443 {
		return dst
	}
	dst = append(dst, ':')
	return strconv.AppendUint(dst, uint64(port), 10)
}

func defaultPort(scheme string) string {
	switch scheme {
	case "http":
		return "80"
	case "https":
		return "443"
	}
	return ""
}

// splitPort splits host and port of an authority; an IPv6 literal keeps its brackets.
func splitPort(a string) (host, port string) {
	i := strings.LastIndexByte(a, ':')
	if i < 0 || strings.IndexByte(a[i:], ']') >= 0 {
		return a, ""
	}
	return a[:i], a[i+1:]
}

// appendSafe percent-encodes the bytes that would end a header line or a URL.
func appendSafe(dst []byte, s string) []byte {
	const hex = "0123456789ABCDEF"
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c == 0x7f {
			dst = append(dst, '%', hex[c>>4], hex[c&15])
		} else {
			dst = append(dst, c)
		}
	}
	return dst
}
