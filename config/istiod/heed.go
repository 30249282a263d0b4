package istiod

import (
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// heeded are the fields, by message, that are read, refused or told of where they are
// read, or that ask for nothing here: names for statistics, workings of Envoy's own.
// All others are told of by name when they are set.
var heeded = func() map[protoreflect.FullName]map[protoreflect.Name]bool {
	out := map[protoreflect.FullName]map[protoreflect.Name]bool{}
	for name, fields := range map[protoreflect.FullName]string{
		"envoy.config.route.v3.RouteConfiguration": `name virtual_hosts response_headers_to_add response_headers_to_remove request_headers_to_add request_headers_to_remove
			validate_clusters max_direct_response_body_size_bytes typed_per_filter_config metadata`,
		"envoy.config.route.v3.VirtualHost": `name domains routes matcher require_tls virtual_clusters request_headers_to_add request_headers_to_remove response_headers_to_add
			response_headers_to_remove typed_per_filter_config retry_policy request_mirror_policies metadata`,
		"envoy.config.route.v3.Route": `name match route redirect direct_response filter_action non_forwarding_action metadata decorator typed_per_filter_config request_headers_to_add
			request_headers_to_remove response_headers_to_add response_headers_to_remove stat_prefix`,
		"envoy.config.route.v3.RouteAction": `cluster cluster_header weighted_clusters cluster_specifier_plugin inline_cluster_specifier_plugin cluster_not_found_response_code metadata_match
			prefix_rewrite regex_rewrite path_rewrite_policy path_rewrite host_rewrite_literal auto_host_rewrite host_rewrite_header host_rewrite_path_regex host_rewrite
			append_x_forwarded_host timeout idle_timeout flush_timeout retry_policy request_mirror_policies rate_limits hash_policy max_grpc_timeout internal_redirect_policy hedge_policy max_stream_duration`,
		"envoy.config.route.v3.WeightedCluster":               `clusters total_weight runtime_key_prefix`,
		"envoy.config.route.v3.WeightedCluster.ClusterWeight": `name cluster_header weight metadata_match request_headers_to_add request_headers_to_remove response_headers_to_add response_headers_to_remove typed_per_filter_config host_rewrite_literal`,
		"envoy.config.route.v3.RetryPolicy": `retry_on num_retries per_try_timeout per_try_idle_timeout retry_priority retry_host_predicate host_selection_retry_max_attempts retriable_status_codes
			retry_back_off rate_limited_retry_back_off retriable_headers retriable_request_headers`,
		"envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager": `codec_type stat_prefix rds route_config scoped_routes http_filters add_user_agent tracing
			common_http_protocol_options http_protocol_options http2_protocol_options server_name server_header_transformation scheme_header_transformation max_request_headers_kb stream_idle_timeout
			request_timeout request_headers_timeout drain_timeout delayed_close_timeout access_log access_log_options use_remote_address xff_num_trusted_hops original_ip_detection_extensions
			early_header_mutation_extensions skip_xff_append via generate_request_id forward_client_cert_details set_current_client_cert_details proxy_100_continue upgrade_configs normalize_path merge_slashes
			path_with_escaped_slashes_action request_id_extension local_reply_config strip_matching_host_port strip_any_host_port path_normalization_options strip_trailing_host_dot
			typed_header_validation_config append_x_forwarded_port`,
		"envoy.config.core.v3.HttpProtocolOptions": `idle_timeout max_connection_duration max_headers_count max_stream_duration headers_with_underscores_action max_requests_per_connection`,
		"envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy": `stat_prefix cluster weighted_clusters metadata_match idle_timeout access_log access_log_options max_connect_attempts hash_policy tunneling_config
			max_downstream_connection_duration max_downstream_connection_duration_jitter_percentage`,
		"envoy.config.cluster.v3.Cluster": `transport_socket_matches transport_socket_matcher name alt_stat_name type cluster_type eds_cluster_config connect_timeout per_connection_buffer_limit_bytes lb_policy
			load_assignment health_checks max_requests_per_connection circuit_breakers common_http_protocol_options http2_protocol_options typed_extension_protocol_options dns_refresh_rate dns_jitter
			dns_failure_refresh_rate respect_dns_ttl dns_lookup_family wait_for_warm_on_init outlier_detection cleanup_interval upstream_bind_config lb_subset_config ring_hash_lb_config maglev_lb_config
			original_dst_lb_config least_request_lb_config round_robin_lb_config common_lb_config transport_socket metadata upstream_connection_options load_balancing_policy track_timeout_budgets
			track_cluster_stats preconnect_policy typed_dns_resolver_config filters`,
		"envoy.extensions.filters.http.ext_authz.v3.ExtAuthz": `grpc_service http_service transport_api_version failure_mode_allow failure_mode_allow_header_add with_request_body clear_route_cache status_on_error
			metadata_context_namespaces typed_metadata_context_namespaces filter_enabled filter_enabled_metadata deny_at_disable include_peer_certificate stat_prefix bootstrap_metadata_labels_key allowed_headers
			disallowed_headers include_tls_session charge_cluster_response_stats decoder_header_mutation_rules emit_filter_state_stats shadow_mode`,
		"envoy.extensions.filters.http.jwt_authn.v3.JwtProvider": `issuer audiences subjects require_expiration max_lifetime remote_jwks local_jwks forward from_headers from_params from_cookies forward_payload_header
			pad_forward_payload_header payload_in_metadata normalize_payload_in_metadata header_in_metadata failed_status_in_metadata clock_skew_seconds jwt_cache_config claim_to_headers clear_route_cache`,
	} {
		set := map[protoreflect.Name]bool{}
		for f := range strings.FieldsSeq(fields) {
			set[protoreflect.Name(f)] = true
		}
		out[name] = set
	}
	return out
}()

// unheeded names the fields of m that are set and not heeded, in the order of their
// numbers.
func unheeded(m proto.Message) (names []string) {
	r := m.ProtoReflect()
	if !r.IsValid() {
		return nil
	}
	set := heeded[r.Descriptor().FullName()]
	for fs, i := r.Descriptor().Fields(), 0; i < fs.Len(); i++ {
		if f := fs.Get(i); !set[f.Name()] && r.Has(f) {
			names = append(names, string(f.Name()))
		}
	}
	return names
}

// heed tells of what a message asks for in vain.
func (t *translator) heed(field string, m proto.Message) {
	for _, n := range unheeded(m) {
		t.missing(field, n)
	}
}
