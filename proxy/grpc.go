package proxy

// grpcCode maps the status of an answer that the waypoint itself makes to a gRPC
// code, as Envoy does (Grpc::Utility::httpToGrpcStatus).
func grpcCode(status int) int {
	switch status {
	case 400:
		return 13 // INTERNAL
	case 401:
		return 16 // UNAUTHENTICATED
	case 403:
		return 7 // PERMISSION_DENIED
	case 404:
		return 12 // UNIMPLEMENTED
	case 429, 502, 503, 504:
		return 14 // UNAVAILABLE
	}
	return 2 // UNKNOWN
}

// appendGRPCMessage appends s percent-encoded for grpc-message: printable ASCII
// but '%' stands for itself (gRPC over HTTP/2, "Responses").
func appendGRPCMessage(dst []byte, s string) []byte {
	const hexdigits = "0123456789ABCDEF"
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= ' ' && c <= '~' && c != '%' {
			dst = append(dst, c)
		} else {
			dst = append(dst, '%', hexdigits[c>>4], hexdigits[c&15])
		}
	}
	return dst
}

// parseGRPCTimeout reads a grpc-timeout: up to eight digits and a unit. Zero and
// false when it is malformed.
func parseGRPCTimeout(s string) (nanos int64, ok bool) {
	if len(s) < 2 || len(s) > 9 {
		return 0, false
	}
	var n int64
	for i := 0; i < len(s)-1; i++ {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = n*10 + int64(s[i]-'0')
	}
	var unit int64
	switch s[len(s)-1] {
	case 'n':
		unit = 1
	case 'u':
		unit = 1e3
	case 'm':
		unit = 1e6
	case 'S':
		unit = 1e9
	case 'M':
		unit = 60e9
	case 'H':
		unit = 3600e9
	default:
		return 0, false
	}
	// 99999999 hours do not fit in an int64 of nanoseconds.
	const most = 1<<63 - 1
	if n > most/unit {
		return most, true
	}
	return n * unit, true
}
