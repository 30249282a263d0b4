package proxy

import (
	"context"
	"errors"
	"os"
	"strings"
	"syscall"

	"waypoint.dev/waypoint/hbone"
	"waypoint.dev/waypoint/proxy/codec"
	"waypoint.dev/waypoint/resilience"
	"waypoint.dev/waypoint/telemetry"
)

// failure is why an attempt gave no response, in Envoy's terms.
type failure uint8

const (
	failNone failure = iota
	failNoHost
	failRemoteConnect
	failLocalConnect
	failConnectTimeout
	failTermination
	failRemoteReset
	failRefused
	failLocalReset
	failOverflow
	failProtocol
	failTryTimeout
	failTimeout
	failIdle
	failDuration       // the route's, or the connection manager's, max_stream_duration
	failStreamDuration // the cluster's
	failClient         // the client went away or broke the protocol; nothing is answered upstream's fault
	failCut            // a policy change cut it
	failStopped        // the end of the process cut it
)

// failures gives each failure its text in bodies and details (Envoy:
// Http::Utility::resetReasonToString), its flag (Router: streamResetReasonToResponseFlag)
// and its status.
var failures = [...]struct {
	text   string
	detail string // text with "_" for " ", as it stands in response_code_details
	flag   telemetry.Flags
	status int
}{
	failNone:           {},
	failNoHost:         {"", "", telemetry.FlagUH, 503},
	failRemoteConnect:  {"remote connection failure", "remote_connection_failure", telemetry.FlagUF, 503},
	failLocalConnect:   {"local connection failure", "local_connection_failure", telemetry.FlagUF, 503},
	failConnectTimeout: {"connection timeout", "connection_timeout", telemetry.FlagUF, 503},
	failTermination:    {"connection termination", "connection_termination", telemetry.FlagUC, 503},
	failRemoteReset:    {"remote reset", "remote_reset", telemetry.FlagUR, 503},
	failRefused:        {"remote refused stream reset", "remote_refused_stream_reset", telemetry.FlagUR, 503},
	failLocalReset:     {"local reset", "local_reset", telemetry.FlagLR, 503},
	failOverflow:       {"overflow", "overflow", telemetry.FlagUO, 503},
	failProtocol:       {"protocol error", "protocol_error", telemetry.FlagUPE, 502},
	failTryTimeout:     {"", "upstream_per_try_timeout", telemetry.FlagUT, 504},
	failTimeout:        {"", "upstream_response_timeout", telemetry.FlagUT, 504},
	failIdle:           {"", "stream_idle_timeout", telemetry.FlagSI, 504},
	failDuration:       {"", "max_duration_timeout", telemetry.FlagDT, 504},
	failStreamDuration: {"", "upstream_max_stream_duration_reached", telemetry.FlagUMSDR, 504},
	failClient:         {"", "downstream_remote_disconnect", telemetry.FlagDC, 0},
	failCut:            {"", "policy_changed", telemetry.FlagLR, 503},
	failStopped:        {"", "drain_deadline", telemetry.FlagLR, 0},
}

func (f failure) flag() telemetry.Flags { return failures[f].flag }

// String returns the text that logs use.
func (f failure) String() string {
	if t := failures[f].text; t != "" {
		return t
	}
	return strings.ReplaceAll(failures[f].detail, "_", " ")
}

// beforeDetails and afterDetails are response_code_details of a failure that
// struck before and after the response head, built once.
var beforeDetails, afterDetails = detailTexts("upstream_reset_before_response_started"), detailTexts("upstream_reset_after_response_started")

func detailTexts(prefix string) (t [len(failures)]string) {
	for i := range failures {
		t[i] = prefix + "{" + failures[i].detail + "}"
	}
	return t
}

// clientEnd is why the client's side of something ended.
func (p *Proxy) clientEnd() failure {
	if p.ctx.Err() != nil {
		return failStopped
	}
	return failClient
}

// details returns response_code_details of f.
func (f failure) details(started bool) string {
	switch f {
	case failNoHost:
		return "no_healthy_upstream"
	case failTryTimeout, failTimeout, failIdle, failDuration, failStreamDuration, failClient, failCut, failStopped:
		return failures[f].detail
	}
	if started {
		return afterDetails[f]
	}
	return beforeDetails[f]
}

// connectFailure maps the error of a dial.
func connectFailure(err error) failure {
	if errors.Is(err, resilience.ErrOverflow) {
		return failOverflow
	}
	var de *hbone.DialError
	if errors.As(err, &de) {
		switch de.Stage {
		case hbone.StageTimeout:
			return failConnectTimeout
		case hbone.StageCanceled:
			return failLocalReset
		case hbone.StagePool:
			if errors.Is(de.Err, hbone.ErrPoolFull) {
				return failOverflow
			}
			return failLocalConnect
		}
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return failConnectTimeout
	case errors.Is(err, syscall.EADDRNOTAVAIL), errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return failLocalConnect
	}
	return failRemoteConnect
}

// exchangeFailure maps an error of a codec's client side.
func exchangeFailure(err error) failure {
	var e *codec.Error
	if !errors.As(err, &e) {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return failTimeout
		}
		return failTermination
	}
	switch e.Kind {
	case codec.Refused:
		return failRefused
	case codec.Reset:
		if !e.Remote {
			return failLocalReset
		}
		return failRemoteReset
	case codec.Protocol:
		return failProtocol
	case codec.Timeout:
		return failTimeout
	case codec.Aborted:
		return failLocalReset
	}
	return failTermination
}
