package telemetry

import (
	"net/netip"
	"strings"
)

// attribute returns what evaluates an attribute of Envoy's, nil if it is not known.
func attribute(path []string) node {
	if len(path) == 3 && path[2] != "" {
		if get := headersOf(path[:2]); get != nil {
			name := strings.ToLower(path[2])
			return textNode(func(r *Record) string { return get(r, name) })
		}
	}
	if len(path) > 0 && path[0] == "filter_state" {
		path = path[1:]
	}
	if len(path) == 0 {
		return nil
	}
	switch strings.TrimPrefix(path[0], "wasm.") {
	case "upstream_peer":
		return peerNode(path[1:], func(r *Record) *Peer { return r.Dest })
	case "downstream_peer":
		return peerNode(path[1:], func(r *Record) *Peer { return r.Source })
	case "io.istio.peer_principal":
		return textNode(peerPrincipal)
	}
	return attributes[strings.Join(path, ".")]
}

// headersOf returns a look-up of request.headers or response.headers.
func headersOf(path []string) func(r *Record, name string) string {
	if len(path) != 2 || path[1] != "headers" {
		return nil
	}
	switch path[0] {
	case "request":
		return (*Record).request
	case "response":
		return func(r *Record, name string) string { return headerOf(r.ResponseHeaders, name) }
	}
	return nil
}

func peerNode(path []string, of func(*Record) *Peer) node {
	if len(path) == 0 {
		return nil
	}
	// Before 1.24 labels stood in a map: upstream_peer.labels['app'].value.
	if len(path) == 3 && path[0] == "labels" && path[2] == "value" {
		path = path[1:2]
	}
	get := peerField(path[0])
	if get == nil || len(path) > 2 {
		return nil
	}
	return textNode(func(r *Record) string { return get(of(r)) })
}

// textNode is an attribute that is a text; an empty one is not there.
func textNode(get func(*Record) string) node {
	return func(r *Record) value {
		if s := get(r); s != "" {
			return value{kind: kindString, s: s}
		}
		return value{}
	}
}

func intNode(get func(*Record) int64) node {
	return func(r *Record) value { return value{kind: kindInt, n: get(r)} }
}

func addrNodes(m map[string]node, name string, get func(*Record) netip.AddrPort) {
	m[name+".address"] = func(r *Record) value {
		if a := get(r); a.IsValid() {
			return value{kind: kindString, s: a.String()}
		}
		return value{}
	}
	m[name+".port"] = func(r *Record) value {
		if a := get(r); a.IsValid() {
			return value{kind: kindInt, n: int64(a.Port())}
		}
		return value{}
	}
}

// attributes are those of Envoy (docs: intro/arch_overview/advanced/attributes) that
// a record has.
var attributes = func() map[string]node {
	m := map[string]node{
		"request.size":                   intNode(func(r *Record) int64 { return r.Received }),
		"response.size":                  intNode(func(r *Record) int64 { return r.Sent }),
		"response.flags":                 intNode(func(r *Record) int64 { return r.Flags.envoy() }),
		"upstream.request_attempt_count": intNode(func(r *Record) int64 { return int64(r.Attempts) }),
		"connection.mtls":                func(r *Record) value { return boolean(r.MutualTLS) },
		"request.duration":               func(r *Record) value { return value{kind: kindDuration, n: int64(r.Duration)} },
		"response.code": func(r *Record) value {
			if r.Protocol == TCP {
				return value{}
			}
			return value{kind: kindInt, n: int64(r.Code)}
		},
		"response.grpc_status": func(r *Record) value {
			if r.GRPCStatus < 0 {
				return value{}
			}
			return value{kind: kindInt, n: int64(r.GRPCStatus)}
		},
		"response.backend_latency": func(r *Record) value {
			if r.UpstreamTime < 0 {
				return value{}
			}
			return value{kind: kindDuration, n: int64(r.UpstreamTime)}
		},
	}
	for name, get := range map[string]func(*Record) string{
		"request.path":                        func(r *Record) string { return r.Path },
		"request.url_path":                    func(r *Record) string { p, _, _ := strings.Cut(r.Path, "?"); return p },
		"request.query":                       func(r *Record) string { _, q, _ := strings.Cut(r.Path, "?"); return q },
		"request.host":                        func(r *Record) string { return r.Authority },
		"request.method":                      func(r *Record) string { return r.Method },
		"request.id":                          func(r *Record) string { return r.RequestID },
		"request.useragent":                   func(r *Record) string { return r.UserAgent },
		"request.protocol":                    func(r *Record) string { return r.Version },
		"request.scheme":                      func(r *Record) string { return headerOf(r.RequestHeaders, "x-forwarded-proto") },
		"request.referer":                     func(r *Record) string { return headerOf(r.RequestHeaders, "referer") },
		"response.code_details":               func(r *Record) string { return r.Details },
		"connection.requested_server_name":    func(r *Record) string { return r.SNI },
		"connection.termination_details":      func(r *Record) string { return r.Termination },
		"connection.uri_san_peer_certificate": peerPrincipal,
		"source.principal":                    peerPrincipal,
		"upstream.uri_san_peer_certificate":   destPrincipal,
		"upstream.transport_failure_reason":   func(r *Record) string { return r.TransportFailure },
		"xds.cluster_name":                    func(r *Record) string { return r.UpstreamCluster },
		"xds.route_name":                      func(r *Record) string { return r.Route },
	} {
		m[name] = textNode(get)
	}
	addrNodes(m, "source", func(r *Record) netip.AddrPort { return r.Downstream })
	addrNodes(m, "destination", func(r *Record) netip.AddrPort { return r.DownstreamLocal })
	addrNodes(m, "upstream", func(r *Record) netip.AddrPort { return r.Upstream })
	return m
}()
