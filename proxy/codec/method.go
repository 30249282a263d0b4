package codec

// Misspelled reports whether a method is one of the registered ones in another
// case. Methods are case-sensitive (RFC 9110 section 9.1), so a policy about GET does
// not match get, yet there are applications that serve it as GET. Both codecs answer
// 400; so does Envoy over HTTP/1.
func Misspelled(method string) bool {
	var b [len("CONNECT")]byte
	lower := false
	if len(method) > len(b) {
		return false
	}
	for i := range len(method) {
		c := method[i]
		if 'a' <= c && c <= 'z' {
			lower = true
			c -= 'a' - 'A'
		}
		b[i] = c
	}
	if !lower {
		return false
	}
	switch string(b[:len(method)]) {
	case "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH":
		return true
	}
	return false
}
