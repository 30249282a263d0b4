package http1

import (
	"encoding/binary"
	"unsafe"
)

// lowerName maps the octets of a token (RFC 9110 section 5.6.2) to lower case
// and every other octet to 0.
var lowerName = func() (t [256]byte) {
	const tchar = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"
	for i := range len(tchar) {
		t[tchar[i]] = tchar[i]
	}
	for c := byte('A'); c <= 'Z'; c++ {
		t[c] = c + 'a' - 'A'
	}
	return t
}()

// hostChar holds the octets of a reg-name (RFC 3986 section 3.2.2).
var hostChar = func() (t [256]bool) {
	const ok = "-._~!$&'()*+,;=%0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	for i := range len(ok) {
		t[ok[i]] = true
	}
	return t
}()

// view returns b as a string that borrows it.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// valueLen returns how many leading octets of b may stand in a field value:
// HTAB, SP, VCHAR and obs-text (RFC 9110 section 5.5). Eight octets a step.
func valueLen(b []byte) int {
	i := 0
	for {
		for i+8 <= len(b) {
			x := binary.LittleEndian.Uint64(b[i:])
			del := x ^ 0x7f*ones
			// Top bits mark an octet below 0x20 or equal to 0x7f; a borrow may
			// mark one too many, which the octet loop below sorts out.
			if ((x-0x20*ones)&^x|(del-ones)&^del)&highs != 0 {
				break
			}
			i += 8
		}
		end := min(i+8, len(b))
		for i < end && (b[i] >= 0x20 && b[i] != 0x7f || b[i] == '\t') {
			i++
		}
		if i < end || i == len(b) {
			return i
		}
	}
}

func validValue(s string) bool {
	return valueLen(unsafe.Slice(unsafe.StringData(s), len(s))) == len(s)
}

func validToken(s string) bool {
	for i := range len(s) {
		if lowerName[s[i]] == 0 {
			return false
		}
	}
	return s != ""
}

// validTarget accepts what Envoy's parser does: every visible ASCII octet.
// Normalization and fragments are the pipeline's.
func validTarget(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return s != ""
}

// ValidAuthority reports whether s is host or host:port (RFC 3986 section
// 3.2.2), without userinfo. An empty host or port is refused: nothing can be
// routed by it, and readers disagree about it.
func ValidAuthority(s string) bool {
	i := 0
	if s != "" && s[0] == '[' {
		for i = 1; i < len(s) && s[i] != ']'; i++ {
			if c := s[i]; !isHex(c) && c != ':' && c != '.' {
				return false
			}
		}
		if i < 3 || i == len(s) { // "::" is the shortest address
			return false
		}
		i++
	} else {
		for i < len(s) && hostChar[s[i]] {
			if s[i] == '%' && (i+2 >= len(s) || !isHex(s[i+1]) || !isHex(s[i+2])) {
				return false
			}
			i++
		}
	}
	if i == len(s) {
		return i > 0
	}
	if i == 0 || s[i] != ':' || i+1 == len(s) || len(s)-i > 6 {
		return false
	}
	port := 0
	for i++; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
		port = port*10 + int(s[i]-'0')
	}
	return port <= 65535
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'f'
}

// equalFold compares s with lower, an ASCII word in lower case.
func equalFold(s, lower string) bool {
	if len(s) != len(lower) {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// nextToken cuts the first element of a comma list and trims it. Empty elements
// are returned empty (RFC 9110 section 5.6.1.2 has recipients ignore them).
func nextToken(list string) (token, rest string) {
	end := len(list)
	rest = ""
	for i := range len(list) {
		if list[i] == ',' {
			end, rest = i, list[i+1:]
			break
		}
	}
	return trimOWS(list[:end]), rest
}

func trimOWS(s string) string {
	for s != "" && (s[0] == ' ' || s[0] == '\t') {
		s = s[1:]
	}
	for s != "" && (s[len(s)-1] == ' ' || s[len(s)-1] == '\t') {
		s = s[:len(s)-1]
	}
	return s
}
