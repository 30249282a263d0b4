package http1

import "unsafe"

// view returns b as a string that borrows it.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

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
