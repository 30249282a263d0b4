package istiod

import (
	"fmt"
	"strings"
	"testing"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/redis_proxy/v3"

	"waypoint.dev/waypoint/authz"
	"waypoint.dev/waypoint/authz/extauthz"
	"waypoint.dev/waypoint/config"
)

func netFilter(typ, body string) string {
	if body != "" {
		body = "," + body
	}
	return `{"name":"n","typed_config":{"@type":"` + ext + `network.` + typ + `"` + body + `}}`
}

const tcpEnd = `{"name":"tcp","typed_config":{"@type":"` + ext + `network.tcp_proxy.v3.TcpProxy","stat_prefix":"x","cluster":"c"}}`

// tcpProgram translates a TCP chain.
func tcpProgram(t *testing.T, filters ...string) *program {
	t.Helper()
	fc := parse(t, &listenerv3.FilterChain{}, `{"name":"inbound-vip|1|tcp|h","filters":[`+strings.Join(filters, ",")+`]}`)
	w := NewWorld(testOptions())
	return w.translate("inbound-vip|1|tcp|h", wire(t, fc), digest{}, nil).prog
}

func TestNetworkFilters(t *testing.T) {
	for name, x := range map[string]struct {
		filters []string
		broken  string
	}{
		"plain":     {[]string{tcpEnd}, ""},
		"redis":     {[]string{netFilter("redis_proxy.v3.RedisProxy", "")}, "network filter n"},
		"wasm":      {[]string{netFilter("wasm.v3.Wasm", `"config":{"name":"x"}`), tcpEnd}, "Wasm"},
		"wasm open": {[]string{netFilter("wasm.v3.Wasm", `"config":{"fail_open":true}`), tcpEnd}, ""},
		"principal": {[]string{netFilter("set_filter_state.v3.Config", `"on_new_connection":[{"object_key":"io.istio.peer_principal"}]`), tcpEnd}, "policies compare"},
		"nothing":   {nil, "ends neither"},
		"no end":    {[]string{netFilter("set_filter_state.v3.Config", "")}, "ends neither"},
		"behind":    {[]string{tcpEnd, netFilter("rbac.v3.RBAC", "")}, "behind the last one"},
		"no config": {[]string{`{"name":"n"}`, tcpEnd}, "has no configuration"},
		"tunneling": {[]string{netFilter("tcp_proxy.v3.TcpProxy", `"cluster":"c","tunneling_config":{"hostname":"h"}`)}, "tunneling_config"},
		"bad rbac":  {[]string{netFilter("rbac.v3.RBAC", `"rules":{"policies":{"p":{"permissions":[{}],"principals":[{"any":true}]}}}`), tcpEnd}, "permission"},
	} {
		if p := tcpProgram(t, x.filters...); (p.broken == "") != (x.broken == "") || !strings.Contains(p.broken, x.broken) {
			t.Errorf("%s: broken %q, want %q", name, p.broken, x.broken)
		}
	}
}

// TestTCPBounds reads how long connections may be silent and last, which only a route
// can say: the default backend alone has no room for it.
func TestTCPBounds(t *testing.T) {
	p := tcpProgram(t, netFilter("tcp_proxy.v3.TcpProxy", `"cluster":"inbound-vip|1|tcp|h","idle_timeout":"2s","max_downstream_connection_duration":"3s"`))
	d := &config.Destination{}
	p.fillTCP(d, nil)
	if len(d.TCPRoutes) != 1 || d.TCPRoutes[0].Idle.String() != "2s" || d.TCPRoutes[0].Max.String() != "3s" || len(p.problems) != 0 {
		t.Errorf("%+v %v", d.TCPRoutes, p.problems)
	}
	p = tcpProgram(t, netFilter("tcp_proxy.v3.TcpProxy", `"cluster":"inbound-vip|1|tcp|h","max_downstream_connection_duration":"3s"`))
	d = &config.Destination{}
	p.fillTCP(d, nil)
	if len(d.TCPRoutes) != 1 || d.TCPRoutes[0].Max.String() != "3s" {
		t.Errorf("%+v", d.TCPRoutes)
	}
}

func TestExternalAuthorizationOfConnections(t *testing.T) {
	shadow := netFilter("rbac.v3.RBAC", `"shadow_rules_stat_prefix":"istio_ext_authz_","shadow_rules":{"action":"DENY","policies":{
		"istio-ext-authz-grpc-ns[a]-policy[b]-rule[0]":{"permissions":[{"destination_port":1}],"principals":[{"any":true}]}}}`)
	ask1 := netFilter("ext_authz.v3.ExtAuthz", `"grpc_service":{"envoy_grpc":{"cluster_name":"x"}},"filter_enabled_metadata":{
		"filter":"envoy.filters.http.rbac","path":[{"key":"istio_ext_authz_shadow_effective_policy_id"}],"value":{"string_match":{"prefix":"istio-ext-authz-grpc-"}}}`)
	p := tcpProgram(t, shadow, ask1, tcpEnd)
	d := &config.Destination{Protocol: config.ProtocolTCP}
	p.fillTCP(d, nil)
	if p.broken != "" || len(d.Stages) != 1 || d.Stages[0].Spec.(*extauthz.Config).Name != "grpc" || d.Stages[0].Spec.(*extauthz.Config).Backend != "x" {
		t.Fatalf("%q %+v", p.broken, d.Stages)
	}
	e := authz.Compile(d.Conn)
	if name, _, _, ok := e.CustomConn(ask{port: 1}.request().Conn, 0); !ok || name != "grpc" {
		t.Errorf("provider %q", name)
	}
	if _, _, _, ok := e.CustomConn(ask{port: 2}.request().Conn, 0); ok {
		t.Error("asked about a connection that no policy names")
	}
}

// TestTwoAllowFiltersMustBothAllow checks that filters in a row are a conjunction.
func TestTwoAllowFiltersMustBothAllow(t *testing.T) {
	allow := func(port string) string {
		return netFilter("rbac.v3.RBAC", `"rules":{"policies":{"ns[a]-policy[p]-rule[0]":{"permissions":[{"destination_port_range":{"start":1,"end":`+port+`}}],"principals":[{"any":true}]}}}`)
	}
	e := authz.Compile(tcpProgram(t, allow("100"), allow("10"), tcpEnd).conn)
	for port, want := range map[uint16]bool{5: true, 50: false, 500: false} {
		if d := e.CheckConn(ask{port: port}.request().Conn); d.Allowed != want {
			t.Errorf("port %d: %+v", port, d)
		}
	}
	// Without a rule nothing passes, whatever comes behind it.
	none := policies(rbacv3.RBAC_ALLOW, nil, false)
	if d := authz.Compile(both(none, tcpProgram(t, allow("100"), tcpEnd).conn)).CheckConn(ask{port: 5}.request().Conn); d.Allowed {
		t.Error("a filter without policies allows nothing")
	}
}

func TestTunnelPoliciesGuardEverything(t *testing.T) {
	m := &mesh{services: 1}
	w := NewWorld(testOptions())
	apply(t, w, m.resources(t))
	terminate := func(filter string) Resource {
		l := parse(t, &listenerv3.Listener{}, `{"name":"connect_terminate","filter_chains":[{"filters":[{"name":"h","typed_config":{
			"@type":"`+ext+`network.http_connection_manager.v3.HttpConnectionManager","http2_protocol_options":{"max_concurrent_streams":100,"connection_keepalive":{"interval":"10s","timeout":"20s"}},
			"http_filters":[`+filter+`,`+httpFilter("r", "router.v3.Router", "")+`]}}]}]}`)
		return Resource{connectTerminate, "1", wire(t, l)}
	}
	w.Apply(ListenerType, []Resource{terminate(httpFilter("f", "rbac.v3.RBAC", `"rules":{"action":"DENY","policies":{"ns[a]-policy[b]-rule[0]":{
		"permissions":[{"any":true}],"principals":[{"filter_state":{"key":"io.istio.peer_principal","string_match":{"prefix":"spiffe://cluster.local/ns/bad/"}}}]}}}`))}, nil)
	c := chainOf(t, compile(t, w.Model()), m.host(0)+":80")
	if ok, _ := allowed(c, ask{peer: "cluster.local/ns/bad/sa/x", path: "/"}.request()); ok {
		t.Error("allowed")
	}
	if ok, _ := allowed(c, ask{peer: curl, path: "/"}.request()); !ok {
		t.Error("denied")
	}
	if tn, ok := w.Tunnels(); !ok || tn.MaxStreams != 100 || tn.PingTimeout.String() != "20s" {
		t.Errorf("tunnels %+v", tn)
	}
	w.Apply(ListenerType, []Resource{terminate(httpFilter("f", "lua.v3.Lua", ""))}, nil)
	if d := w.Model().Destinations[0]; !strings.Contains(d.Broken, "connect_terminate: filter f") {
		t.Errorf("broken %q", d.Broken)
	}
}

// TestTrustDomainsOfPeers reads whose certificates istiod has tunnels accept. What is no
// prefix of a trust domain cannot be held, and closes all.
func TestTrustDomainsOfPeers(t *testing.T) {
	san := func(typ, matcher string) string { return `{"san_type":"` + typ + `","matcher":{` + matcher + `}}` }
	for _, x := range []struct{ sans, aliases, broken string }{
		{"", "[]", ""},
		{san("URI", `"prefix":"spiffe://cluster.local/"`), "[]", ""},
		{san("URI", `"prefix":"spiffe://cluster.local/"`) + "," + san("URI", `"prefix":"spiffe://old.example/"`) + "," + san("URI", `"prefix":"spiffe://old.example/"`), "[old.example]", ""},
		{san("URI", `"prefix":"spiffe://other"`), "[]", "subject alternative name"}, // other.evil too
		{san("URI", `"prefix":"spiffe://"`), "[]", "subject alternative name"},
		{san("URI", `"exact":"spiffe://cluster.local/ns/a/sa/b"`), "[]", "subject alternative name"},
		{san("URI", `"prefix":"spiffe://cluster.local/ns/a/"`), "[]", "subject alternative name"},
		{san("DNS", `"prefix":"spiffe://cluster.local/"`), "[]", "subject alternative name"},
	} {
		m := &mesh{services: 1}
		w := NewWorld(testOptions())
		apply(t, w, m.resources(t))
		l := parse(t, &listenerv3.Listener{}, `{"name":"connect_terminate","filter_chains":[{"transport_socket":{"name":"tls","typed_config":{"@type":"type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
			"common_tls_context":{"combined_validation_context":{"default_validation_context":{"match_typed_subject_alt_names":[`+x.sans+`]},"validation_context_sds_secret_config":{"name":"ROOTCA"}}}}},
			"filters":[{"name":"h","typed_config":{"@type":"`+ext+`network.http_connection_manager.v3.HttpConnectionManager","http_filters":[`+httpFilter("r", "router.v3.Router", "")+`]}}]}]}`)
		if errs := w.Apply(ListenerType, []Resource{{connectTerminate, "1", wire(t, l)}}, nil); errs != nil {
			t.Fatal(errs[0])
		}
		model := w.Model()
		if got := fmt.Sprint(model.Mesh.TrustAliases); got != x.aliases {
			t.Errorf("%s: aliases %s, want %s", x.sans, got, x.aliases)
		}
		if b := model.Destinations[0].Broken; (b == "") != (x.broken == "") || !strings.Contains(b, x.broken) {
			t.Errorf("%s: broken %q", x.sans, b)
		}
	}
}

func TestTCPProxy(t *testing.T) {
	p := tcpProgram(t, netFilter("tcp_proxy.v3.TcpProxy", `"idle_timeout":"30s","hash_policy":[{"source_ip":{}}],"weighted_clusters":{"clusters":[{"name":"a","weight":1},{"name":"b","weight":3}]}`))
	d := &config.Destination{Protocol: config.ProtocolTCP}
	p.fillTCP(d, nil)
	r := d.TCPRoutes[0]
	if len(r.Backends) != 2 || r.Idle.String() != "30s" || d.Refs[r.Backends[1].Ref] != "b" || r.Backends[1].Weight != 3 || !p.hash[0].SourceIP {
		t.Errorf("%+v", r)
	}
}
