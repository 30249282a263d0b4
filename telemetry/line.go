package telemetry

import (
	"net/netip"
	"strconv"
	"time"
)

// appendText writes Istio's default format
// (istio: pilot/pkg/model/telemetry_logging.go, EnvoyTextLogFormat):
//
//	[START_TIME] "METHOD PATH PROTOCOL" CODE FLAGS DETAILS TERMINATION "FAILURE" RECEIVED SENT DURATION UPSTREAM_TIME
//	"XFF" "USER-AGENT" "REQUEST-ID" "AUTHORITY" "UPSTREAM" CLUSTER UPSTREAM_LOCAL LOCAL REMOTE SNI ROUTE
func appendText(b []byte, r *Record) []byte {
	b = append(b, '[')
	b = appendTime(b, r.Start)
	b = append(b, `] "`...)
	b = appendSafe(b, r.Method)
	b = append(b, ' ')
	b = appendSafe(b, r.Path)
	b = append(b, ' ')
	b = appendSafe(b, r.Version)
	b = append(b, `" `...)
	b = strconv.AppendInt(b, int64(r.Code), 10)
	b = append(b, ' ')
	b = r.Flags.Append(b)
	b = append(b, ' ')
	b = appendSafe(b, r.Details)
	b = append(b, ' ')
	b = appendSafe(b, r.Termination)
	b = append(b, ` "`...)
	b = appendSafe(b, r.TransportFailure)
	b = append(b, `" `...)
	b = strconv.AppendInt(b, r.Received, 10)
	b = append(b, ' ')
	b = strconv.AppendInt(b, r.Sent, 10)
	b = append(b, ' ')
	b = strconv.AppendInt(b, r.Duration.Milliseconds(), 10)
	b = append(b, ' ')
	b = appendUpstreamTime(b, r.UpstreamTime)
	for _, s := range [...]string{r.Forwarded, r.UserAgent, r.RequestID, r.Authority} {
		b = append(b, ` "`...)
		b = appendSafe(b, s)
		b = append(b, '"')
	}
	b = append(b, ` "`...)
	b = appendAddr(b, r.Upstream)
	b = append(b, `" `...)
	b = appendSafe(b, r.UpstreamCluster)
	for _, a := range [...]netip.AddrPort{r.UpstreamLocal, r.DownstreamLocal, r.Downstream} {
		b = append(b, ' ')
		b = appendAddr(b, a)
	}
	b = append(b, ' ')
	b = appendSafe(b, r.SNI)
	b = append(b, ' ')
	b = appendSafe(b, r.Route)
	return append(b, '\n')
}

// appendJSON writes the same values under Istio's JSON keys, and what decided
// under keys of our own.
func appendJSON(b []byte, r *Record) []byte {
	b = append(b, `{"start_time":"`...)
	b = appendTime(b, r.Start)
	b = append(b, '"')
	b = appendPair(b, "route_name", r.Route)
	b = appendPair(b, "method", r.Method)
	b = appendPair(b, "path", r.Path)
	b = appendPair(b, "protocol", r.Version)
	b = append(b, `,"response_code":`...)
	b = strconv.AppendInt(b, int64(r.Code), 10)
	b = append(b, `,"response_flags":"`...)
	b = r.Flags.Append(b)
	b = append(b, '"')
	b = appendPair(b, "response_code_details", r.Details)
	b = appendPair(b, "connection_termination_details", r.Termination)
	b = append(b, `,"bytes_received":`...)
	b = strconv.AppendInt(b, r.Received, 10)
	b = append(b, `,"bytes_sent":`...)
	b = strconv.AppendInt(b, r.Sent, 10)
	b = append(b, `,"duration":`...)
	b = strconv.AppendInt(b, r.Duration.Milliseconds(), 10)
	b = append(b, `,"upstream_service_time":`...)
	if r.UpstreamTime < 0 {
		b = append(b, "null"...)
	} else {
		b = append(b, '"')
		b = strconv.AppendInt(b, r.UpstreamTime.Milliseconds(), 10)
		b = append(b, '"')
	}
	b = appendPair(b, "x_forwarded_for", r.Forwarded)
	b = appendPair(b, "user_agent", r.UserAgent)
	b = appendPair(b, "request_id", r.RequestID)
	b = appendPair(b, "authority", r.Authority)
	b = appendAddrPair(b, "upstream_host", r.Upstream)
	b = appendPair(b, "upstream_cluster", r.UpstreamCluster)
	b = appendAddrPair(b, "upstream_local_address", r.UpstreamLocal)
	b = appendAddrPair(b, "downstream_local_address", r.DownstreamLocal)
	b = appendAddrPair(b, "downstream_remote_address", r.Downstream)
	b = appendPair(b, "requested_server_name", r.SNI)
	b = appendPair(b, "upstream_transport_failure_reason", r.TransportFailure)
	if r.Policy != "" || r.Reason != "" {
		b = appendPair(b, "policy", r.Policy)
		b = appendPair(b, "policy_rule", r.Rule)
		b = appendPair(b, "policy_reason", r.Reason)
	}
	if r.Audit != "" {
		b = appendPair(b, "audit_policy", r.Audit)
	}
	if r.DryRun != "" {
		b = appendPair(b, "dry_run", r.DryRun)
		b = appendPair(b, "dry_run_policy", r.DryRunPolicy)
	}
	if r.Attempts > 1 {
		b = append(b, `,"attempts":`...)
		b = strconv.AppendInt(b, int64(r.Attempts), 10)
	}
	return append(b, "}\n"...)
}

func appendPair(b []byte, k, v string) []byte {
	b = append(b, `,"`...)
	b = append(b, k...)
	b = append(b, `":`...)
	if v == "" {
		return append(b, "null"...)
	}
	b = append(b, '"')
	b = appendEscaped(b, v)
	return append(b, '"')
}

func appendAddrPair(b []byte, k string, a netip.AddrPort) []byte {
	b = append(b, `,"`...)
	b = append(b, k...)
	if !a.IsValid() {
		return append(b, `":null`...)
	}
	b = append(b, `":"`...)
	b = a.AppendTo(b)
	return append(b, '"')
}

func appendUpstreamTime(b []byte, d time.Duration) []byte {
	if d < 0 {
		return append(b, '-')
	}
	return strconv.AppendInt(b, d.Milliseconds(), 10)
}

func appendAddr(b []byte, a netip.AddrPort) []byte {
	if !a.IsValid() {
		return append(b, '-')
	}
	return a.AppendTo(b)
}

// appendTime writes ISO 8601 with milliseconds in UTC, as Envoy's %START_TIME%.
func appendTime(b []byte, t time.Time) []byte {
	return t.UTC().AppendFormat(b, "2006-01-02T15:04:05.000Z")
}

// appendSafe writes a value of a text line. Quotes, backslashes and control
// bytes are escaped, so that a client cannot forge a line or a field.
func appendSafe(b []byte, s string) []byte {
	if s == "" {
		return append(b, '-')
	}
	return appendEscaped(b, s)
}

const hexDigits = "0123456789abcdef"

func appendEscaped(b []byte, s string) []byte {
	start := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= 0x20 && c != '"' && c != '\\' && c < 0x7f {
			continue
		}
		b = append(b, s[start:i]...)
		start = i + 1
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		default:
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	return append(b, s[start:]...)
}
