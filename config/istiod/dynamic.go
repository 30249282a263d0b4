package istiod

import (
	dfpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/dynamic_forward_proxy/v3"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/resilience/balance"
)

// dynamic translates a cluster whose endpoints are named by requests: of a
// ServiceEntry of a wildcard host with resolution DYNAMIC_DNS. istiod holds the
// name to the host by the domains of the routes; the host is kept here too, since
// not every way into the cluster passes them.
func (r *clusterReader) dynamic(cfg *anyMessage) {
	var c dfpv3.ClusterConfig
	if err := unpack(cfg, &c); err != nil {
		r.fail("cluster_type", "%v", err)
		return
	}
	if c.GetSubClustersConfig() != nil {
		r.fail("cluster_type", "sub_clusters_config is not supported")
		return
	}
	s, cache := &r.c.spec, c.GetDnsCacheConfig()
	s.Balance.Kind = balance.Passthrough
	s.Dynamic = &config.Dynamic{Host: s.Service.Host, Port: s.Service.Port, MaxHosts: int(cache.GetMaxHosts().GetValue())}
	if s.Dynamic.Host == "" {
		s.Dynamic.Host = "*"
	}
	for _, x := range []struct {
		name string
		set  bool
	}{
		{"dns_cache_circuit_breaker", cache.GetDnsCacheCircuitBreaker() != nil},
		{"typed_dns_resolver_config", cache.GetTypedDnsResolverConfig() != nil},
		{"preresolve_hostnames", len(cache.GetPreresolveHostnames()) > 0},
		{"key_value_config", cache.GetKeyValueConfig() != nil},
		{"allow_coalesced_connections", c.GetAllowCoalescedConnections()},
	} {
		if x.set {
			r.missing("cluster_type", x.name)
		}
	}
}
