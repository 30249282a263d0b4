package codec

// ForbiddenTrailer reports whether the field name (lower case) has no place in a
// trailer section: what frames the message, routes it, modifies the request,
// authenticates or says how to process the content (RFC 9110 section 6.5.1).
// Both codecs drop these.
func ForbiddenTrailer(name string) bool {
	switch name {
	case "transfer-encoding", "content-length", "host", "trailer", // framing and routing
		"connection", "keep-alive", "proxy-connection", "te", "upgrade", "http2-settings", // hop by hop
		"cache-control", "expect", "max-forwards", "pragma", "range", // request modifiers
		"if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range",
		"authorization", "proxy-authenticate", "proxy-authorization", "www-authenticate", // authentication
		"cookie", "set-cookie",
		"age", "date", "expires", "location", "retry-after", "vary", "warning", // response control data
		"content-encoding", "content-range", "content-type":
		return true
	}
	return false
}
