package codec

import (
	"encoding/binary"
	"unsafe"
)

// LowerName maps the octets of a token (RFC 9110 section 5.6.2) to lower case
// and every other octet to 0.
var LowerName = func() (t [256]byte) {
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

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// ValueLen returns how many leading octets of b may stand in a field value:
// HTAB, SP, VCHAR and obs-text (RFC 9110 section 5.5). Eight octets a step.
func ValueLen(b []byte) int {
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

// ValidValue reports whether s may be a field value.
func ValidValue(s string) bool {
	return ValueLen(unsafe.Slice(unsafe.StringData(s), len(s))) == len(s)
}

// ValidToken reports whether s is a token, as field names and methods are.
func ValidToken(s string) bool {
	for i := range len(s) {
		if LowerName[s[i]] == 0 {
			return false
		}
	}
	return s != ""
}

// ValidTarget accepts what Envoy's parser does: every visible ASCII octet.
// Normalization and fragments are the pipeline's.
func ValidTarget(s string) bool {
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
