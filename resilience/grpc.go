package resilience

// GRPCToHTTP maps a gRPC status to the HTTP status that outlier detection and
// breakers count it as (Envoy's Grpc::Utility::grpcToHttpStatus). An unknown
// status is 500.
func GRPCToHTTP(status string) int {
	switch status {
	case "0":
		return 200
	case "1":
		return 499 // cancelled
	case "3", "9", "11":
		return 400 // invalid argument, failed precondition, out of range
	case "4":
		return 504 // deadline exceeded
	case "5":
		return 404 // not found
	case "6", "10":
		return 409 // already exists, aborted
	case "7":
		return 403 // permission denied
	case "8":
		return 429 // resource exhausted
	case "12":
		return 501 // unimplemented
	case "14":
		return 503 // unavailable
	case "16":
		return 401 // unauthenticated
	}
	return 500 // unknown, internal, data loss
}
