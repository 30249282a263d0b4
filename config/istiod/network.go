package istiod

import (
	"fmt"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	netauthzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/ext_authz/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	netrbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
	netstatev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/set_filter_state/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	netwasmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/wasm/v3"
	wasmcfgv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/wasm/v3"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/resilience/balance"
	"waypoint.dev/waypoint/routing"
)

const networkFilters = "envoy.extensions.filters.network."

// harmlessNetwork are network filters without a say in who gets through.
var harmlessNetwork = map[string]bool{
	"envoy.tcp.metadataexchange.config.MetadataExchange":    true,
	"envoy.extensions.network_filters.peer_metadata.Config": true,
	"stats.PluginConfig": true,
	networkFilters + "sni_dynamic_forward_proxy.v3.FilterConfig": true, // its cluster names the endpoints
	networkFilters + "mongo_proxy.v3.MongoProxy":                 true, // statistics
	"envoy.extensions.filters.network.mysql_proxy.v3.MySQLProxy": true, // statistics
}

// chain translates the network filters of a filter chain.
func (t *translator) chain(fc *listenerv3.FilterChain) {
	terminal := false
	for _, f := range fc.GetFilters() {
		if terminal {
			t.fail("network filter %s: stands behind the last one", f.GetName())
			return
		}
		cfg := f.GetTypedConfig()
		if d := f.GetConfigDiscovery(); d != nil {
			t.used = append(t.used, f.GetName())
			var ok bool
			if cfg, ok = t.ext(f.GetName()); !ok {
				cfg = d.GetDefaultConfig()
			}
		}
		if cfg == nil {
			t.fail("network filter %s: has no configuration", f.GetName())
			continue
		}
		kind := innerType(cfg)
		terminal = kind == networkFilters+"http_connection_manager.v3.HttpConnectionManager" || kind == networkFilters+"tcp_proxy.v3.TcpProxy"
		if err := t.network(f.GetName(), kind, cfg); err != nil {
			t.fail("network filter %s (%s): %v", f.GetName(), shortType(kind), err)
		}
	}
	if !terminal {
		t.fail("filter chain: ends neither in http_connection_manager nor in tcp_proxy")
	}
}

func (t *translator) network(name, kind string, cfg *anyMessage) error {
	field := "filters[" + name + "]"
	switch kind {
	case networkFilters + "http_connection_manager.v3.HttpConnectionManager":
		var h hcmv3.HttpConnectionManager
		if err := unpack(cfg, &h); err != nil {
			return err
		}
		t.hcm(&h)
		return nil
	case networkFilters + "tcp_proxy.v3.TcpProxy":
		var c tcpv3.TcpProxy
		if err := unpack(cfg, &c); err != nil {
			return err
		}
		return t.tcpProxy(&c, field)
	case networkFilters + "rbac.v3.RBAC":
		var c netrbacv3.RBAC
		if err := unpack(cfg, &c); err != nil {
			return err
		}
		if c.GetMatcher() != nil || c.GetShadowMatcher() != nil {
			return errString("matcher trees are not supported")
		}
		t.p.readsSNI = t.p.readsSNI || readsSNI(c.GetRules()) || readsSNI(c.GetShadowRules())
		ps, err := t.rbacPolicies(c.GetRules(), c.GetShadowRules(), c.GetShadowRulesStatPrefix())
		if err != nil {
			return err
		}
		t.p.conn = both(t.p.conn, ps)
		return nil
	case networkFilters + "ext_authz.v3.ExtAuthz":
		var c netauthzv3.ExtAuthz
		if err := unpack(cfg, &c); err != nil {
			return err
		}
		return t.netExtAuthz(&c)
	case networkFilters + "set_filter_state.v3.Config":
		var c netstatev3.Config
		if err := unpack(cfg, &c); err != nil {
			return err
		}
		for _, v := range c.GetOnNewConnection() {
			if err := filterState(v.GetObjectKey()); err != nil {
				return err
			}
		}
		return nil
	case networkFilters + "wasm.v3.Wasm":
		var c netwasmv3.Wasm
		if err := unpack(cfg, &c); err != nil {
			return err
		}
		if p := c.GetConfig(); p.GetFailOpen() || p.GetFailurePolicy() == wasmcfgv3.FailurePolicy_FAIL_OPEN {
			t.note(config.Warning, ReasonNotImplemented, field, "Wasm is not supported; the filter fails open and is left out")
			return nil
		}
		return errString("Wasm is not supported")
	}
	if harmlessNetwork[kind] {
		return nil
	}
	return errUnknownFilter
}

// tcpProxy translates the end of a TCP chain.
func (t *translator) tcpProxy(c *tcpv3.TcpProxy, field string) error {
	t.p.http = false
	if f := newerField(c); f != "" {
		t.missing(field, f)
	}
	t.heed(field, c)
	switch {
	case c.GetTunnelingConfig() != nil:
		return errString("tunneling_config is not supported")
	case c.GetMetadataMatch() != nil:
		return errString("metadata_match is not supported")
	}
	switch x := c.GetClusterSpecifier().(type) {
	case *tcpv3.TcpProxy_Cluster:
		t.p.tcp = []routing.Backend{{Ref: t.ref(x.Cluster), Weight: 1, Status: 503}}
	case *tcpv3.TcpProxy_WeightedClusters:
		for _, w := range x.WeightedClusters.GetClusters() {
			if w.GetMetadataMatch() != nil {
				return errString("metadata_match is not supported")
			}
			t.p.tcp = append(t.p.tcp, routing.Backend{Ref: t.ref(w.GetName()), Weight: w.GetWeight(), Status: 503})
		}
	default:
		return fmt.Errorf("cluster specifier %s is not supported", oneof(x, "TcpProxy_"))
	}
	t.p.tcpIdle = duration(c.GetIdleTimeout())
	for _, h := range c.GetHashPolicy() {
		if h.GetSourceIp() != nil {
			t.p.hash = []balance.HashSource{{SourceIP: true}}
		} else {
			t.missing(field+".hash_policy", oneof(h.GetPolicySpecifier(), "HashPolicy_"))
		}
	}
	t.p.tcpMax = duration(c.GetMaxDownstreamConnectionDuration())
	if c.GetMaxDownstreamConnectionDurationJitterPercentage() != nil {
		t.missing(field, "max_downstream_connection_duration_jitter_percentage")
	}
	t.p.telemetry = t.intern.telemetry(t, c.GetAccessLog(), nil)
	return nil
}
