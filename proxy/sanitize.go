package proxy

import (
	"slices"
	"strings"

	"waypoint.dev/waypoint/internal/attrs"
)

// forbidden reports whether a client may not send the header name. They are
// the ones that Envoy removes from a request of an external peer
// (ConnectionManagerUtility::mutateRequestHeaders), which every peer of a
// waypoint is, and those that say who someone is, which only the tunnel can.
func forbidden(name string) bool {
	if len(name) < 8 || name[0] != 'x' || name[1] != '-' {
		return false
	}
	switch name {
	case "x-forwarded-client-cert",
		"x-istio-attributes",
		"x-envoy-internal",
		"x-envoy-retry-on",
		"x-envoy-retry-grpc-on",
		"x-envoy-max-retries",
		"x-envoy-retriable-status-codes",
		"x-envoy-retriable-header-names",
		"x-envoy-hedge-on-per-try-timeout",
		"x-envoy-upstream-alt-stat-name",
		"x-envoy-upstream-rq-timeout-ms",
		"x-envoy-upstream-rq-per-try-timeout-ms",
		"x-envoy-upstream-rq-timeout-alt-response",
		"x-envoy-upstream-stream-duration-ms",
		"x-envoy-expected-rq-timeout-ms",
		"x-envoy-force-trace",
		"x-envoy-ip-tags",
		"x-envoy-original-url",
		"x-envoy-original-path",
		"x-envoy-is-timeout-retry",
		"x-envoy-attempt-count",
		"x-envoy-decorator-operation",
		"x-envoy-downstream-service-cluster",
		"x-envoy-downstream-service-node",
		"x-envoy-peer-metadata",
		"x-envoy-peer-metadata-id":
		return true
	}
	return false
}

// trailers are the trailers of the request that may go to a backend. A name that a
// client may not write, or that a stage removed from the head, comes in no other way
// either: applications may merge trailers into the head (RFC 9110 section 6.5.1).
func (s *source) trailers() []attrs.Field {
	all := s.srv.Trailers()
	if !slices.ContainsFunc(all, s.forbids) {
		return all
	}
	return slices.DeleteFunc(slices.Clone(all), s.forbids) // attempts share the original
}

func (s *source) forbids(f attrs.Field) bool {
	return forbidden(f.Name) || strings.HasPrefix(f.Name, "x-forwarded-") || f.Name == "forwarded" || slices.Contains(s.guarded, f.Name)
}

// well-known fields found while copying a request head.
type known struct {
	requestID   string
	proto       string // x-forwarded-proto
	forwarded   string // x-forwarded-for, last line
	grpc        bool
	grpcTimeout string
	userAgent   string
	preflight   bool // access-control-request-method was sent
	origin      string
}

// sanitize appends to dst the fields of src that a client may send, and notes
// what later steps need, in one pass.
func sanitize(dst, src []attrs.Field, k *known) []attrs.Field {
	for i := range src {
		f := &src[i]
		switch len(f.Name) {
		case len("origin"):
			if f.Name == "origin" {
				k.origin = f.Value
			}
		case len("user-agent"):
			if f.Name == "user-agent" {
				k.userAgent = f.Value
			}
		case len("x-request-id"): // and content-type, grpc-timeout
			switch f.Name {
			case "x-request-id":
				if k.requestID == "" {
					k.requestID = f.Value
				}
				if f.Value == "" {
					continue // as absent: one is generated
				}
			case "content-type":
				k.grpc = k.grpc || isGRPC(f.Value)
			case "grpc-timeout":
				k.grpcTimeout = f.Value
			}
		case len("x-forwarded-for"):
			if f.Name == "x-forwarded-for" {
				k.forwarded = f.Value
			}
		case len("x-forwarded-proto"):
			if f.Name == "x-forwarded-proto" {
				k.proto = f.Value
			}
		case len("access-control-request-method"):
			if f.Name == "access-control-request-method" {
				k.preflight = true
			}
		}
		if !forbidden(f.Name) {
			dst = append(dst, *f)
		}
	}
	return dst
}

// isGRPC reports whether a content type is that of gRPC: "application/grpc",
// alone or followed by "+", as Envoy decides it (Grpc::Common::hasGrpcContentType).
func isGRPC(ct string) bool {
	const t = "application/grpc"
	return len(ct) >= len(t) && ct[:len(t)] == t &&
		(len(ct) == len(t) || ct[len(t)] == '+' || ct[len(t)] == ';')
}

// lastHop returns the last element of an x-forwarded-for value: what the nearest
// proxy appended. With use_remote_address off it is the remote address.
func lastHop(v string) string {
	for i := len(v) - 1; i >= 0; i-- {
		if v[i] == ',' {
			v = v[i+1:]
			break
		}
	}
	for v != "" && (v[0] == ' ' || v[0] == '\t') {
		v = v[1:]
	}
	for v != "" && (v[len(v)-1] == ' ' || v[len(v)-1] == '\t') {
		v = v[:len(v)-1]
	}
	return v
}

// setField replaces the first field called name, removes the others, or appends.
func setField(fs []attrs.Field, name, value string) []attrs.Field {
	at := -1
	out := fs[:0]
	for i := range fs {
		if fs[i].Name == name {
			if at >= 0 {
				continue
			}
			at = len(out)
			out = append(out, attrs.Field{Name: name, Value: value})
			continue
		}
		out = append(out, fs[i])
	}
	if at < 0 {
		out = append(out, attrs.Field{Name: name, Value: value})
	}
	return out
}

// removeField removes every field called name.
func removeField(fs []attrs.Field, name string) []attrs.Field {
	for i := range fs {
		if fs[i].Name == name {
			out := fs[:i]
			for _, f := range fs[i+1:] {
				if f.Name != name {
					out = append(out, f)
				}
			}
			return out
		}
	}
	return fs
}

// findField returns the value of the first field called name.
func findField(fs []attrs.Field, name string) (string, bool) {
	for i := range fs {
		if fs[i].Name == name {
			return fs[i].Value, true
		}
	}
	return "", false
}
