package istiod

import (
	"cmp"
	"fmt"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/routing"
)

// hcm translates an HTTP connection manager into stages, routes and settings.
func (t *translator) hcm(h *hcmv3.HttpConnectionManager) {
	t.p.http = true
	if f := newerField(h); f != "" {
		t.missing("http_connection_manager", f)
	}
	t.heed("http_connection_manager", h)
	t.heed("http_connection_manager.common_http_protocol_options", h.GetCommonHttpProtocolOptions())
	t.settings(h)
	t.names = make(map[string]string, len(h.GetHttpFilters()))
	for _, f := range h.GetHttpFilters() {
		t.names[f.GetName()] = t.filterType(f)
	}
	t.filters(h)
	switch r := h.GetRouteSpecifier().(type) {
	case *hcmv3.HttpConnectionManager_RouteConfig:
		t.routes(r.RouteConfig)
		t.ensureRoutes(r.RouteConfig)
	default:
		t.fail("http_connection_manager: %s is not supported, routes have to be inline", oneof(r, "HttpConnectionManager_"))
	}
	t.idle(h)
	t.prune()
	t.p.telemetry = t.intern.telemetry(t, h.GetAccessLog(), h.GetTracing())
	if h.GetXffNumTrustedHops() > 0 && t.rbac.readsRemote {
		t.fail("http_connection_manager: a policy reads the remote address, and xff_num_trusted_hops is not supported")
	}
}

// settings reads the switches of the codec and of header handling.
func (t *translator) settings(h *hcmv3.HttpConnectionManager) {
	s := &t.p.settings
	s.Normalization = t.normalization(h)
	s.AllowHTTP10 = h.GetHttpProtocolOptions().GetAcceptHttp_10()
	s.KeepServer = h.GetServerHeaderTransformation() != hcmv3.HttpConnectionManager_OVERWRITE
	s.XFF = h.GetUseRemoteAddress().GetValue() && !h.GetSkipXffAppend()
	s.MaxHeadBytes = int(h.GetMaxRequestHeadersKb().GetValue()) << 10
	if s.ServerName = h.GetServerName(); s.ServerName == "istio-envoy" {
		s.ServerName = "" // the default
	}
	s.NoRequestID = h.GetGenerateRequestId() != nil && !h.GetGenerateRequestId().GetValue()
	t.fields(h.GetCommonHttpProtocolOptions())
	if h.GetForwardClientCertDetails() != hcmv3.HttpConnectionManager_SANITIZE {
		// What a client says of certificates is never passed on: the filter that
		// states the caller's identity sets it, see xfccFilter.
		t.note(config.Info, ReasonNotImplemented, "forward_client_cert_details", "x-forwarded-client-cert of clients is replaced or removed, not forwarded")
	}
	for _, x := range []struct {
		name string
		set  bool
	}{
		{"strip_matching_host_port", h.GetStripMatchingHostPort()},
		{"strip_any_host_port", h.GetStripAnyHostPort()},
		{"strip_trailing_host_dot", h.GetStripTrailingHostDot()},
		{"original_ip_detection_extensions", len(h.GetOriginalIpDetectionExtensions()) > 0},
		{"early_header_mutation_extensions", len(h.GetEarlyHeaderMutationExtensions()) > 0},
		{"path_normalization_options", h.GetPathNormalizationOptions() != nil},
		{"typed_header_validation_config", h.GetTypedHeaderValidationConfig() != nil},
		{"scheme_header_transformation", h.GetSchemeHeaderTransformation() != nil},
	} {
		if x.set { // each changes what policies compare
			t.fail("http_connection_manager: %s is not supported", x.name)
		}
	}
	c := h.GetCommonHttpProtocolOptions()
	for _, x := range []struct {
		name string
		set  bool
	}{
		{"local_reply_config", h.GetLocalReplyConfig() != nil},
		{"add_user_agent", h.GetAddUserAgent().GetValue()},
		{"via", h.GetVia() != ""},
		{"request_timeout", duration(h.GetRequestTimeout()) > 0},
		{"request_headers_timeout", duration(h.GetRequestHeadersTimeout()) > 0},
		{"http_protocol_options.header_key_format", h.GetHttpProtocolOptions().GetHeaderKeyFormat() != nil},
		{"append_x_forwarded_port", h.GetAppendXForwardedPort()},
		{"common_http_protocol_options.idle_timeout", duration(c.GetIdleTimeout()) > 0},
		{"common_http_protocol_options.max_connection_duration", duration(c.GetMaxConnectionDuration()) > 0},
		{"server_header_transformation APPEND_IF_ABSENT", h.GetServerHeaderTransformation() == hcmv3.HttpConnectionManager_APPEND_IF_ABSENT},
	} {
		if x.set {
			t.missing("http_connection_manager", x.name)
		}
	}
	for _, u := range h.GetUpgradeConfigs() {
		switch {
		case len(u.GetFilters()) > 0:
			t.fail("http_connection_manager: filters of upgrade %s are not supported", u.GetUpgradeType())
		case u.GetUpgradeType() != "websocket":
			t.missing("http_connection_manager.upgrade_configs", "upgrade "+u.GetUpgradeType())
		}
	}
}

// maxFields is how many fields of a request the codecs take.
const maxFields = 100

// fields reads what is done with fields of requests. An action that is not known
// refuses them: it is a guard against names that servers mix up.
func (t *translator) fields(c *corev3.HttpProtocolOptions) {
	s := &t.p.settings
	if n := c.GetMaxHeadersCount().GetValue(); n > maxFields {
		t.missing("http_connection_manager", fmt.Sprintf("max_headers_count above %d", maxFields))
	} else {
		s.MaxFields = int(n)
	}
	switch c.GetHeadersWithUnderscoresAction() {
	case corev3.HttpProtocolOptions_ALLOW:
	case corev3.HttpProtocolOptions_DROP_HEADER:
		s.Underscores = config.UnderscoresDrop
	default:
		s.Underscores = config.UnderscoresReject
	}
}

// normalization reads the four forms that meshConfig.pathNormalization has.
// Policies compare the normalized path, so any other one is refused.
func (t *translator) normalization(h *hcmv3.HttpConnectionManager) config.Normalization {
	action := h.GetPathWithEscapedSlashesAction()
	keep := action == hcmv3.HttpConnectionManager_KEEP_UNCHANGED || action == hcmv3.HttpConnectionManager_IMPLEMENTATION_SPECIFIC_DEFAULT
	decode := action == hcmv3.HttpConnectionManager_UNESCAPE_AND_FORWARD
	switch normal, merge := h.GetNormalizePath().GetValue(), h.GetMergeSlashes(); {
	case !normal && !merge && keep:
		return config.NormalizeNone
	case normal && !merge && keep:
		return config.NormalizeBase
	case normal && merge && keep:
		return config.NormalizeMergeSlashes
	case normal && merge && decode:
		return config.NormalizeDecodeAndMergeSlashes
	default:
		t.fail("http_connection_manager: normalize_path %v with merge_slashes %v and path_with_escaped_slashes_action %s is not supported", normal, merge, action)
	}
	return config.NormalizeDecodeAndMergeSlashes
}

// idle gives routes that say nothing of it the idle timeout and the longest duration
// of the connection manager, which is Envoy's rule for streams.
func (t *translator) idle(h *hcmv3.HttpConnectionManager) {
	d, most := duration(h.GetStreamIdleTimeout()), duration(h.GetCommonHttpProtocolOptions().GetMaxStreamDuration())
	for i := range t.p.routes {
		r := &t.p.routes[i]
		if r.IdleTimeout == 0 {
			r.IdleTimeout = d
		}
		r.MaxDuration = max(cmp.Or(r.MaxDuration, most), 0)
	}
}

// prune removes stages that no route gives anything to do.
func (t *translator) prune() {
	usesFault, usesCORS := len(t.p.faults) > 0, false
	for i := range t.p.routes {
		usesCORS = usesCORS || t.p.routes[i].Filters.CORS != nil
	}
	stages := t.p.stages[:0]
	fault, hasCORS := false, false
	for _, st := range t.p.stages {
		switch {
		case st.Kind == config.StageFault && !usesFault, st.Kind == config.StageCORS && !usesCORS:
			continue
		case st.Kind == config.StageFault:
			st.Spec, fault = t.p.faults, true
		case st.Kind == config.StageCORS:
			hasCORS = true
		}
		stages = append(stages, st)
	}
	t.p.stages = stages
	for i := range t.p.routes {
		// A route's settings do nothing without their filter (Envoy).
		if !fault {
			t.p.routes[i].Fault = -1
		}
		if !hasCORS {
			t.p.routes[i].Filters.CORS = nil
		}
	}
}

// ensureRoutes keeps a chain without any route from falling back to its backend:
// Envoy answers 404 to everything.
func (t *translator) ensureRoutes(rc *routev3.RouteConfiguration) {
	if len(t.p.routes) > 0 {
		return
	}
	t.p.routes = []routing.Rule{{
		Name: "no route", Direct: &routing.DirectResponse{Status: 404},
		Matches: []routing.Match{{}}, Retry: -1, Fault: -1, Session: -1, Hash: -1,
	}}
	t.note(config.Warning, ReasonInvalid, "route_config", fmt.Sprintf("%q has no routes; every request answers 404", rc.GetName()))
}
