package telemetry

import (
	"cmp"
	"encoding/hex"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"waypoint.dev/waypoint/internal/attrs"
)

func nothing(b []byte, _ *Record) ([]byte, bool) { return b, false }

// text makes an operator of a string; an empty one is none.
func text(get func(r *Record) string) operator {
	return func(b []byte, r *Record) ([]byte, bool) {
		s := get(r)
		return append(b, s...), s != ""
	}
}

func number(get func(r *Record) int64) operator {
	return func(b []byte, r *Record) ([]byte, bool) { return strconv.AppendInt(b, get(r), 10), true }
}

// address makes operators of an address: whole, without its port, the port.
func address(get func(r *Record) netip.AddrPort) (whole, host, port operator) {
	whole = func(b []byte, r *Record) ([]byte, bool) {
		if a := get(r); a.IsValid() {
			return a.AppendTo(b), true
		}
		return b, false
	}
	host = func(b []byte, r *Record) ([]byte, bool) {
		if a := get(r); a.IsValid() {
			return a.Addr().AppendTo(b), true
		}
		return b, false
	}
	port = func(b []byte, r *Record) ([]byte, bool) {
		if a := get(r); a.IsValid() {
			return strconv.AppendInt(b, int64(a.Port()), 10), true
		}
		return b, false
	}
	return whole, host, port
}

// known is an operator.
type known struct {
	op       operator
	plain    bool // its value is a number
	response bool // it reads headers of the response
}

// simple are the operators without an argument; those of numbers are plain.
var simple = func() map[string]known {
	m := map[string]known{}
	for name, get := range map[string]func(r *Record) string{
		"PROTOCOL":                          func(r *Record) string { return r.Version },
		"RESPONSE_CODE_DETAILS":             func(r *Record) string { return r.Details },
		"CONNECTION_TERMINATION_DETAILS":    func(r *Record) string { return r.Termination },
		"UPSTREAM_TRANSPORT_FAILURE_REASON": func(r *Record) string { return r.TransportFailure },
		"UPSTREAM_CLUSTER":                  func(r *Record) string { return r.UpstreamCluster },
		"UPSTREAM_CLUSTER_RAW":              func(r *Record) string { return r.UpstreamCluster },
		"REQUESTED_SERVER_NAME":             func(r *Record) string { return r.SNI },
		"ROUTE_NAME":                        func(r *Record) string { return r.Route },
		"DOWNSTREAM_PEER_URI_SAN":           peerPrincipal,
		"UPSTREAM_PEER_URI_SAN":             destPrincipal,
	} {
		m[name] = known{op: text(get)}
	}
	for name, get := range map[string]func(r *Record) int64{
		"RESPONSE_CODE":                  func(r *Record) int64 { return int64(r.Code) },
		"BYTES_RECEIVED":                 func(r *Record) int64 { return r.Received },
		"BYTES_SENT":                     func(r *Record) int64 { return r.Sent },
		"DURATION":                       func(r *Record) int64 { return r.Duration.Milliseconds() },
		"UPSTREAM_REQUEST_ATTEMPT_COUNT": func(r *Record) int64 { return int64(r.Attempts) },
	} {
		m[name] = known{op: number(get), plain: true}
	}
	for name, get := range map[string]func(r *Record) netip.AddrPort{
		"UPSTREAM_HOST":                    func(r *Record) netip.AddrPort { return r.Upstream },
		"UPSTREAM_REMOTE_ADDRESS":          func(r *Record) netip.AddrPort { return r.Upstream },
		"UPSTREAM_LOCAL_ADDRESS":           func(r *Record) netip.AddrPort { return r.UpstreamLocal },
		"DOWNSTREAM_LOCAL_ADDRESS":         func(r *Record) netip.AddrPort { return r.DownstreamLocal },
		"DOWNSTREAM_REMOTE_ADDRESS":        func(r *Record) netip.AddrPort { return r.Downstream },
		"DOWNSTREAM_DIRECT_REMOTE_ADDRESS": func(r *Record) netip.AddrPort { return r.Downstream },
		"DOWNSTREAM_DIRECT_LOCAL_ADDRESS":  func(r *Record) netip.AddrPort { return r.DownstreamLocal },
	} {
		whole, host, port := address(get)
		stem := strings.TrimSuffix(name, "_ADDRESS")
		m[name] = known{op: whole}
		m[name+"_WITHOUT_PORT"] = known{op: host}
		m[stem+"_PORT"] = known{op: port, plain: true}
	}
	m["RESPONSE_FLAGS"] = known{op: func(b []byte, r *Record) ([]byte, bool) { return r.Flags.Append(b), true }}
	m["RESPONSE_DURATION"] = known{op: upstreamTime, plain: true}
	m["GRPC_STATUS_NUMBER"] = known{op: func(b []byte, r *Record) ([]byte, bool) {
		return strconv.AppendInt(b, int64(r.GRPCStatus), 10), r.GRPCStatus >= 0
	}, plain: true}
	m["TRACE_ID"] = known{op: func(b []byte, r *Record) ([]byte, bool) {
		if r.Trace.ID == [16]byte{} {
			return b, false
		}
		return hex.AppendEncode(b, r.Trace.ID[:]), true
	}}
	return m
}()

func peerPrincipal(r *Record) string {
	if r.Source == nil {
		return ""
	}
	return r.Source.Principal
}

func destPrincipal(r *Record) string {
	if r.Dest == nil {
		return ""
	}
	return r.Dest.Principal
}

func upstreamTime(b []byte, r *Record) ([]byte, bool) {
	if r.UpstreamTime < 0 {
		return b, false
	}
	return strconv.AppendInt(b, r.UpstreamTime.Milliseconds(), 10), true
}

// grpcNames are the codes of gRPC as Envoy writes them (Grpc::Utility).
var grpcNames = [...]string{
	"OK", "Canceled", "Unknown", "InvalidArgument", "DeadlineExceeded", "NotFound", "AlreadyExists", "PermissionDenied", "ResourceExhausted",
	"FailedPrecondition", "Aborted", "OutOfRange", "Unimplemented", "Internal", "Unavailable", "DataLoss", "Unauthenticated",
}

// findOperator returns what writes %name(arg)%; without an operator it is not known.
func findOperator(name, arg string) known {
	if x, ok := simple[name]; ok {
		return x
	}
	switch name {
	case "REQ":
		return known{op: requestHeader(arg)}
	case "RESP":
		return known{op: responseHeader(arg), response: true}
	case "START_TIME":
		return known{op: startTime(arg)}
	case "GRPC_STATUS":
		if strings.EqualFold(arg, "NUMBER") {
			return simple["GRPC_STATUS_NUMBER"]
		}
		return known{op: text(grpcName)}
	case "HOSTNAME":
		h, _ := os.Hostname()
		return known{op: text(func(*Record) string { return h })}
	case "ENVIRONMENT":
		v := cmp.Or(os.Getenv(arg), "-") // Envoy: EnvironmentFormatter
		return known{op: text(func(*Record) string { return v })}
	case "FILTER_STATE":
		return known{op: filterState(arg)}
	case "CEL":
		if e, err := CompileExpression(arg); err == nil {
			return known{op: e.append, response: e.response}
		}
	}
	return known{}
}

func grpcName(r *Record) string {
	switch {
	case r.GRPCStatus < 0:
		return ""
	case r.GRPCStatus < len(grpcNames):
		return grpcNames[r.GRPCStatus]
	}
	return "InvalidCode"
}

// headerOf returns the first line of a header.
func headerOf(h []attrs.Field, name string) string {
	for i := range h {
		if h[i].Name == name {
			return h[i].Value
		}
	}
	return ""
}

// request returns a header, or a part of the request's head that HTTP/2 has among
// the headers.
func (r *Record) request(name string) string {
	switch name {
	case ":method":
		return r.Method
	case ":path":
		return r.Path
	case ":authority", "host":
		return r.Authority
	case "x-request-id":
		return r.RequestID
	case "user-agent":
		return r.UserAgent
	case "x-forwarded-for":
		return r.Forwarded
	}
	return headerOf(r.RequestHeaders, name)
}

// requestHeader reads "NAME" or "NAME?OTHER": the other where the first is not there.
func requestHeader(arg string) operator {
	first, other, _ := strings.Cut(strings.ToLower(arg), "?")
	return text(func(r *Record) string {
		if v := r.request(first); v != "" || other == "" {
			return v
		}
		return r.request(other)
	})
}

func responseHeader(arg string) operator {
	first, other, _ := strings.Cut(strings.ToLower(arg), "?")
	if first == "x-envoy-upstream-service-time" {
		return upstreamTime
	}
	return text(func(r *Record) string {
		if v := headerOf(r.ResponseHeaders, first); v != "" || other == "" {
			return v
		}
		return headerOf(r.ResponseHeaders, other)
	})
}

// filterState reads what Istio keeps of the peers of a request: NAME, NAME:PLAIN or
// NAME:FIELD:part.
func filterState(arg string) operator {
	key, field, _ := strings.Cut(arg, ":")
	_, part, _ := strings.Cut(field, ":")
	switch strings.TrimSuffix(strings.TrimPrefix(key, "wasm."), "_obj") {
	case "downstream_peer":
		if get := peerField(part); get != nil {
			return text(func(r *Record) string { return get(r.Source) })
		}
	case "upstream_peer":
		if get := peerField(part); get != nil {
			return text(func(r *Record) string { return get(r.Dest) })
		}
	case "io.istio.peer_principal":
		return text(peerPrincipal)
	}
	return nil
}

// peerField returns a part of a peer by the name that Istio's expressions have for
// it (proxy: extensions/common/metadata_object.cc).
func peerField(name string) func(*Peer) string {
	get := map[string]func(*Peer) string{
		"namespace": func(p *Peer) string { return p.Namespace },
		"cluster":   func(p *Peer) string { return p.Cluster },
		"service":   func(p *Peer) string { return p.CanonicalService },
		"revision":  func(p *Peer) string { return p.CanonicalRevision },
		"app":       func(p *Peer) string { return p.App },
		"version":   func(p *Peer) string { return p.Version },
		"workload":  func(p *Peer) string { return p.Workload },
		"type":      func(p *Peer) string { return p.WorkloadType },
		"name":      func(p *Peer) string { return p.Instance },
	}[name]
	if get == nil {
		return nil
	}
	return func(p *Peer) string {
		if p == nil {
			return ""
		}
		return get(p)
	}
}

// startTime writes when a request came: as ISO 8601 with milliseconds, or in the
// conversions of strftime and Envoy's %s, %f and %1f to %9f.
func startTime(format string) operator {
	if format == "" {
		return func(b []byte, r *Record) ([]byte, bool) { return appendTime(b, r.Start), true }
	}
	layout := ""
	for rest := format; rest != ""; {
		i := strings.IndexByte(rest, '%')
		if i < 0 || i+1 == len(rest) {
			layout += rest
			break
		}
		layout += rest[:i]
		conv, n := rest[i+1:i+2], 2
		if '1' <= conv[0] && conv[0] <= '9' && i+2 < len(rest) && rest[i+2] == 'f' {
			layout, n = strings.TrimSuffix(layout, ".")+"."+strings.Repeat("0", int(conv[0]-'0')), 3
			if !strings.HasSuffix(rest[:i], ".") {
				return nil // Go writes fractions behind a point only
			}
		} else {
			v, ok := strftime[conv]
			if !ok {
				return wholeSeconds(format)
			}
			layout += v
		}
		rest = rest[i+n:]
	}
	return func(b []byte, r *Record) ([]byte, bool) { return r.Start.UTC().AppendFormat(b, layout), true }
}

// wholeSeconds is %s, the seconds since 1970, alone.
func wholeSeconds(format string) operator {
	if format != "%s" {
		return nil
	}
	return func(b []byte, r *Record) ([]byte, bool) { return strconv.AppendInt(b, r.Start.Unix(), 10), true }
}

// strftime are its conversions as layouts of package time.
var strftime = map[string]string{
	"Y": "2006", "m": "01", "d": "02", "H": "15", "M": "04", "S": "05", "y": "06", "b": "Jan", "B": "January", "a": "Mon", "A": "Monday",
	"F": "2006-01-02", "T": "15:04:05", "z": "-0700", "Z": "UTC", "I": "03", "p": "PM", "e": "_2", "j": "002", "D": "01/02/06", "R": "15:04",
}
