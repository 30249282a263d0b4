package envoy

import "maps"

// chain is the filter chain of a subject.
func (w *World) chain(s *Subject, observe bool) Object {
	name := s.cluster(w.Namespace)
	if !s.TCP {
		return Object{"name": name, "filters": []any{Object{"name": "envoy.filters.network.http_connection_manager", "typed_config": w.hcm(s, observe)}}}
	}
	proxy := typed("extensions.filters.network.tcp_proxy.v3.TcpProxy")
	proxy["stat_prefix"], proxy["cluster"] = name, name
	return Object{"name": name, "filters": append(w.rbacFilters(s, true), Object{"name": "envoy.filters.network.tcp_proxy", "typed_config": proxy})}
}

func (w *World) hcm(s *Subject, observe bool) Object {
	h := typed("extensions.filters.network.http_connection_manager.v3.HttpConnectionManager")
	maps.Copy(h, Object{
		"stat_prefix": "inbound_0.0.0.0_80;", "server_name": "istio-envoy", "stream_idle_timeout": "0s",
		"use_remote_address": false, "proxy_100_continue": true,
		"upgrade_configs":      []any{Object{"upgrade_type": "websocket"}},
		"request_id_extension": Object{"typed_config": typed("extensions.request_id.uuid.v3.UuidRequestIdConfig")},
		"http_filters":         w.filters(s, observe),
		"route_config": Object{"name": clusterName(s.Host(w.Namespace)), "validate_clusters": false,
			"virtual_hosts": []any{Object{"name": "inbound|http|80", "domains": []any{"*"}, "routes": w.routes(s)}}},
	})
	maps.Copy(h, s.Manager)
	if observe && len(s.rules()) > 0 {
		get(h, "route_config", "virtual_hosts", 0).(Object)["response_headers_to_add"] = observations()
	}
	if s.Norm != "NONE" {
		h["normalize_path"] = true
		h["path_with_escaped_slashes_action"] = "KEEP_UNCHANGED"
	}
	if s.Norm == "MERGE_SLASHES" || s.Norm == "DECODE_AND_MERGE_SLASHES" {
		h["merge_slashes"] = true
	}
	if s.Norm == "DECODE_AND_MERGE_SLASHES" {
		h["path_with_escaped_slashes_action"] = "UNESCAPE_AND_FORWARD"
	}
	return h
}

func (w *World) filters(s *Subject, observe bool) []any {
	out := append(w.customFilters(s), w.jwtFilters(s)...)
	if observe {
		out = append(out, w.observers(s)...)
	}
	out = append(out, w.rbacFilters(s, false)...)
	grpc := typed("extensions.filters.http.grpc_stats.v3.FilterConfig")
	grpc["emit_filter_state"] = true
	router := typed("extensions.filters.http.router.v3.Router")
	if s.Quiet {
		router["suppress_envoy_headers"] = true
	}
	return append(out,
		Object{"name": "envoy.filters.http.grpc_stats", "typed_config": grpc},
		Object{"name": "envoy.filters.http.fault", "typed_config": typed("extensions.filters.http.fault.v3.HTTPFault")},
		Object{"name": "envoy.filters.http.cors", "typed_config": typed("extensions.filters.http.cors.v3.Cors")},
		Object{"name": "envoy.filters.http.router", "typed_config": router},
	)
}
