package kube

import (
	"fmt"
	"strings"
	"testing"
)

// TestRefusedFields has a mistake in each field that is checked, by the path that the
// user is told, and beside it what is just right.
func TestRefusedFields(t *testing.T) {
	kinds := map[string]string{
		"AuthorizationPolicy": groupSecurity + "/v1", "RequestAuthentication": groupSecurity + "/v1", "ServiceEntry": groupNet + "/v1", "WorkloadEntry": groupNet + "/v1",
		"HTTPRoute": groupGateway + "/v1", "GRPCRoute": groupGateway + "/v1", "TCPRoute": groupGateway + "/v1alpha2", "TLSRoute": groupGateway + "/v1",
	}
	times := func(n int, s string) string { return strings.TrimSuffix(strings.Repeat(s+", ", n), ", ") }
	numbered := func(n int, format string) string {
		var l []string
		for i := range n {
			l = append(l, fmt.Sprintf(format, i))
		}
		return strings.Join(l, ", ")
	}
	long := func(n int) string { return strings.Repeat("a", n) }
	const (
		parent = "parentRefs: [{group: '', kind: Service, name: cart}]"
		entry  = "hosts: [a.example], ports: [{number: 80, name: http}]"
	)
	rule := func(s string) string { return parent + ", rules: [{" + s + "}]" }
	backend := "backendRefs: [{name: cart, port: 80}]"
	for _, tt := range []struct{ kind, spec, path string }{ // no path: accepted
		{"AuthorizationPolicy", "{}", ""},
		{"AuthorizationPolicy", "{action: NONE}", "spec.action"},
		{"AuthorizationPolicy", "{action: DENY}", "spec.rules"},
		{"AuthorizationPolicy", "{action: CUSTOM, rules: [{}]}", "spec.provider.name"},
		{"AuthorizationPolicy", "{action: CUSTOM, provider: {}, rules: [{}]}", "spec.provider.name"},
		{"AuthorizationPolicy", "{action: CUSTOM, provider: {name: a}}", "spec.rules"},
		{"AuthorizationPolicy", "{action: CUSTOM, provider: {name: a}, rules: [{}]}", ""},
		{"AuthorizationPolicy", "{action: ALLOW, provider: {name: a}}", "spec.provider"},
		{"AuthorizationPolicy", "{rules: [{from: []}]}", "spec.rules[0].from"},
		{"AuthorizationPolicy", "{rules: [{to: []}]}", "spec.rules[0].to"},
		{"AuthorizationPolicy", "{rules: [{from: [{}]}]}", "spec.rules[0].from[0].source"},
		{"AuthorizationPolicy", "{rules: [{from: [{source: {}}]}]}", "spec.rules[0].from[0].source"},
		{"AuthorizationPolicy", "{rules: [{from: [{source: {principals: [a, '']}}]}]}", "spec.rules[0].from[0].source.principals[1]"},
		{"AuthorizationPolicy", "{rules: [{from: [{source: {notIpBlocks: [x]}}]}]}", "spec.rules[0].from[0].source.notIpBlocks[0]"},
		{"AuthorizationPolicy", "{rules: [{from: [{source: {serviceAccounts: [a], notPrincipals: [b]}}]}]}", "spec.rules[0].from[0].source.serviceAccounts"},
		{"AuthorizationPolicy", "{rules: [{from: [{source: {serviceAccounts: [" + times(16, "a") + "]}}]}]}", ""},
		{"AuthorizationPolicy", "{rules: [{from: [{source: {serviceAccounts: [" + times(17, "a") + "]}}]}]}", "spec.rules[0].from[0].source.serviceAccounts"},
		{"AuthorizationPolicy", "{rules: [{from: [{source: {notServiceAccounts: ['a*']}}]}]}", "spec.rules[0].from[0].source.notServiceAccounts[0]"},
		{"AuthorizationPolicy", "{rules: [{from: [{source: {serviceAccounts: [a/b/c]}}]}]}", "spec.rules[0].from[0].source.serviceAccounts[0]"},
		{"AuthorizationPolicy", "{rules: [{from: [{source: {serviceAccounts: [" + long(320) + "]}}]}]}", ""},
		{"AuthorizationPolicy", "{rules: [{from: [{source: {serviceAccounts: [" + long(321) + "]}}]}]}", "spec.rules[0].from[0].source.serviceAccounts[0]"},
		{"AuthorizationPolicy", "{rules: [{to: [{operation: {}}]}]}", "spec.rules[0].to[0].operation"},
		{"AuthorizationPolicy", "{rules: [{to: [{}]}]}", "spec.rules[0].to[0].operation"},
		{"AuthorizationPolicy", "{rules: [{to: [{operation: {ports: ['0']}}]}]}", "spec.rules[0].to[0].operation.ports[0]"},
		{"AuthorizationPolicy", "{rules: [{to: [{operation: {notPorts: ['65536']}}]}]}", "spec.rules[0].to[0].operation.notPorts[0]"},
		{"AuthorizationPolicy", "{rules: [{to: [{operation: {paths: ['']}}]}]}", "spec.rules[0].to[0].operation.paths[0]"},
		{"AuthorizationPolicy", "{rules: [{when: [{values: [a]}]}]}", "spec.rules[0].when[0].key"},
		{"AuthorizationPolicy", "{rules: [{when: [{key: source.ip}]}]}", "spec.rules[0].when[0]"},
		{"AuthorizationPolicy", "{rules: [{when: [{key: source.ip, values: ['']}]}]}", "spec.rules[0].when[0].values[0]"},
		{"AuthorizationPolicy", "{rules: [" + times(512, "{}") + "]}", ""},
		{"AuthorizationPolicy", "{rules: [" + times(513, "{}") + "]}", "spec.rules"},
		{"AuthorizationPolicy", "{selector: {}, targetRefs: [{group: '', kind: Service, name: a}]}", "spec"},
		{"AuthorizationPolicy", "{targetRefs: [{group: '', kind: Service}]}", "spec.targetRefs[0].name"},
		{"AuthorizationPolicy", "{targetRefs: [{group: '', kind: Service, name: a, namespace: b}]}", "spec.targetRefs[0].namespace"},
		{"AuthorizationPolicy", "{targetRefs: [{group: '', kind: Service, name: a, sectionName: b}]}", "spec.targetRefs[0].sectionName"},
		{"AuthorizationPolicy", "{targetRefs: [{group: apps, kind: Deployment, name: a}]}", "spec.targetRefs[0].kind"},
		{"AuthorizationPolicy", "{targetRefs: [" + times(16, "{group: '', kind: Service, name: a}") + "]}", ""},
		{"AuthorizationPolicy", "{targetRefs: [" + times(17, "{group: '', kind: Service, name: a}") + "]}", "spec.targetRefs"},

		{"RequestAuthentication", "{jwtRules: [{issuer: a}]}", ""},
		{"RequestAuthentication", "{jwtRules: [{jwksUri: 'https://a'}]}", ""},
		{"RequestAuthentication", "{jwtRules: [{}]}", "spec.jwtRules[0].issuer"},
		{"RequestAuthentication", "{jwtRules: [{issuer: a, jwks: '{\"keys\":[]}', jwksUri: 'https://a'}]}", "spec.jwtRules[0]"},
		{"RequestAuthentication", "{jwtRules: [{issuer: a, jwks: x}]}", "spec.jwtRules[0].jwks"},
		{"RequestAuthentication", "{jwtRules: [{issuer: a, jwksUri: 'ftp://a'}]}", "spec.jwtRules[0].jwksUri"},
		{"RequestAuthentication", "{jwtRules: [{issuer: a, fromHeaders: [{name: 'a b'}]}]}", "spec.jwtRules[0].fromHeaders[0].name"},
		{"RequestAuthentication", "{jwtRules: [{issuer: a, outputClaimToHeaders: [{header: a}]}]}", "spec.jwtRules[0].outputClaimToHeaders[0]"},
		{"RequestAuthentication", "{jwtRules: [{issuer: a, outputClaimToHeaders: [{header: 'a b', claim: c}]}]}", "spec.jwtRules[0].outputClaimToHeaders[0]"},
		{"RequestAuthentication", "{jwtRules: [{issuer: a, outputPayloadToHeader: 'a b'}]}", "spec.jwtRules[0].outputPayloadToHeader"},
		{"RequestAuthentication", "{jwtRules: [{issuer: a, audiences: ['']}]}", "spec.jwtRules[0].audiences[0]"},
		{"RequestAuthentication", "{targetRefs: [{group: '', kind: Pod, name: a}]}", "spec.targetRefs[0].kind"},

		{"ServiceEntry", "{" + entry + "}", ""},
		{"ServiceEntry", "{ports: [{number: 80, name: http}]}", "spec.hosts"},
		{"ServiceEntry", "{hosts: [" + numbered(256, "h%d.example") + "], ports: [{number: 80, name: http}]}", ""},
		{"ServiceEntry", "{hosts: [" + numbered(257, "h%d.example") + "], ports: [{number: 80, name: http}]}", "spec.hosts"},
		{"ServiceEntry", "{hosts: ['*']}", "spec.hosts[0]"},
		{"ServiceEntry", "{hosts: ['a_b']}", "spec.hosts[0]"},
		{"ServiceEntry", "{hosts: ['*.example'], resolution: DNS, ports: [{number: 80, name: http}]}", "spec.hosts[0]"},
		{"ServiceEntry", "{hosts: ['*.example'], resolution: DNS_ROUND_ROBIN, ports: [{number: 80, name: http}]}", "spec.hosts[0]"},
		{"ServiceEntry", "{" + entry + ", resolution: WHOIS}", "spec.resolution"},
		{"ServiceEntry", "{" + entry + ", location: HERE}", "spec.location"},
		{"ServiceEntry", "{" + entry + ", addresses: [x]}", "spec.addresses[0]"},
		{"ServiceEntry", "{" + entry + ", resolution: STATIC, endpoints: [{address: 1.1.1.1}], workloadSelector: {labels: {a: b}}}", "spec"},
		{"ServiceEntry", "{" + entry + ", resolution: NONE, endpoints: [{address: 1.1.1.1}]}", "spec.endpoints"},
		{"ServiceEntry", "{hosts: [a.example], ports: [{number: 80}]}", "spec.ports[0].name"},
		{"ServiceEntry", "{hosts: [a.example], ports: [{number: 0, name: a}]}", "spec.ports[0].number"},
		{"ServiceEntry", "{hosts: [a.example], ports: [{number: 65536, name: a}]}", "spec.ports[0].number"},
		{"ServiceEntry", "{hosts: [a.example], ports: [{number: 1, name: a}, {number: 65535, name: b}]}", ""},

		{"WorkloadEntry", "{address: 1.1.1.1, ports: {a: 1, b: 65535}}", ""},
		{"WorkloadEntry", "{}", "spec.address"},
		{"WorkloadEntry", "{address: 1.1.1.1, ports: {a: 65536}}", "spec.ports.a"},

		{"HTTPRoute", "{" + parent + "}", ""},
		{"HTTPRoute", "{parentRefs: [{group: '', kind: Service, name: ''}]}", "spec.parentRefs[0].name"},
		{"HTTPRoute", "{parentRefs: [{group: '', kind: Service, name: a, port: 0}]}", "spec.parentRefs[0].port"},
		{"HTTPRoute", "{parentRefs: [{group: '', kind: Service, name: a, port: 65536}]}", "spec.parentRefs[0].port"},
		{"HTTPRoute", "{parentRefs: [{group: '', kind: Service, name: a, port: 1}, {group: '', kind: Service, name: a, port: 65535}]}", ""},
		{"HTTPRoute", "{parentRefs: [{group: '', kind: Service, name: a}, {group: '', kind: Service, name: a}]}", "spec.parentRefs[1]"},
		{"HTTPRoute", "{parentRefs: [{group: '', kind: Service, name: a}, {group: '', kind: Service, name: a, namespace: b}]}", ""},
		{"HTTPRoute", "{parentRefs: [" + numbered(32, "{group: '', kind: Service, name: a%d}") + "]}", ""},
		{"HTTPRoute", "{parentRefs: [" + numbered(33, "{group: '', kind: Service, name: a%d}") + "]}", "spec.parentRefs"},
		{"HTTPRoute", "{" + parent + ", hostnames: ['a_b']}", "spec.hostnames[0]"},
		{"HTTPRoute", "{" + parent + ", hostnames: [" + numbered(17, "h%d") + "]}", "spec.hostnames"},
		{"HTTPRoute", "{" + parent + ", rules: [" + times(16, "{"+backend+"}") + "]}", ""},
		{"HTTPRoute", "{" + parent + ", rules: [" + times(17, "{"+backend+"}") + "]}", "spec.rules"},
		{"HTTPRoute", "{" + rule("name: 'A B', "+backend) + "}", "spec.rules[0].name"},
		{"HTTPRoute", "{" + rule("matches: ["+numbered(65, "{path: {value: /%d}}")+"], "+backend) + "}", "spec.rules[0].matches"},
		{"HTTPRoute", "{" + rule("matches: [{path: {value: a}}], "+backend) + "}", "spec.rules[0].matches[0].path.value"},
		{"HTTPRoute", "{" + rule("matches: [{path: {value: /a//b}}], "+backend) + "}", "spec.rules[0].matches[0].path.value"},
		{"HTTPRoute", "{" + rule("matches: [{path: {value: /a/..}}], "+backend) + "}", "spec.rules[0].matches[0].path.value"},
		{"HTTPRoute", "{" + rule("matches: [{path: {value: '/a b'}}], "+backend) + "}", "spec.rules[0].matches[0].path.value"},
		{"HTTPRoute", "{" + rule("matches: [{path: {value: /"+long(1023)+"}}], "+backend) + "}", ""},
		{"HTTPRoute", "{" + rule("matches: [{path: {value: /"+long(1024)+"}}], "+backend) + "}", "spec.rules[0].matches[0].path.value"},
		{"HTTPRoute", "{" + rule("matches: [{path: {type: RegularExpression, value: '('}}], "+backend) + "}", "spec.rules[0].matches[0].path.value"},
		{"HTTPRoute", "{" + rule("matches: [{path: {type: Glob, value: /}}], "+backend) + "}", "spec.rules[0].matches[0].path.type"},
		{"HTTPRoute", "{" + rule("matches: [{method: FETCH}], "+backend) + "}", "spec.rules[0].matches[0].method"},
		{"HTTPRoute", "{" + rule("matches: [{headers: [{name: a, value: ''}]}], "+backend) + "}", "spec.rules[0].matches[0].headers[0].value"},
		{"HTTPRoute", "{" + rule("matches: [{headers: [{name: 'a b', value: c}]}], "+backend) + "}", "spec.rules[0].matches[0].headers[0].name"},
		{"HTTPRoute", "{" + rule("matches: [{headers: [{name: a, value: b}, {name: a, value: c}]}], "+backend) + "}", "spec.rules[0].matches[0].headers[1].name"},
		{"HTTPRoute", "{" + rule("matches: [{queryParams: [{name: a, type: RegularExpression, value: '('}]}], "+backend) + "}", "spec.rules[0].matches[0].queryParams[0].value"},
		{"HTTPRoute", "{" + rule("matches: [{queryParams: ["+numbered(17, "{name: a%d, value: b}")+"]}], "+backend) + "}", "spec.rules[0].matches[0].queryParams"},
		{"HTTPRoute", "{" + rule("matches: [{headers: ["+numbered(16, "{name: a%d, value: b}")+"]}], "+backend) + "}", ""},
		{"HTTPRoute", "{" + rule("backendRefs: [{name: '', port: 80}]") + "}", "spec.rules[0].backendRefs[0].name"},
		{"HTTPRoute", "{" + rule("backendRefs: [{name: cart}]") + "}", "spec.rules[0].backendRefs[0].port"},
		{"HTTPRoute", "{" + rule("backendRefs: [{name: cart, port: 65536}]") + "}", "spec.rules[0].backendRefs[0].port"},
		{"HTTPRoute", "{" + rule("backendRefs: [{name: cart, port: 80, weight: -1}]") + "}", "spec.rules[0].backendRefs[0].weight"},
		{"HTTPRoute", "{" + rule("backendRefs: [{name: cart, port: 80, weight: 1000001}]") + "}", "spec.rules[0].backendRefs[0].weight"},
		{"HTTPRoute", "{" + rule("backendRefs: [{name: cart, port: 80, weight: 1000000}, {name: cart, port: 80, weight: 0}]") + "}", ""},
		{"HTTPRoute", "{" + rule("backendRefs: ["+times(17, "{name: cart, port: 80}")+"]") + "}", "spec.rules[0].backendRefs"},
		{"HTTPRoute", "{" + rule("timeouts: {request: 1s, backendRequest: 2s}, "+backend) + "}", "spec.rules[0].timeouts"},
		{"HTTPRoute", "{" + rule("timeouts: {request: 0s, backendRequest: 2s}, "+backend) + "}", ""},
		{"HTTPRoute", "{" + rule("timeouts: {request: 2s, backendRequest: 2s}, "+backend) + "}", ""},
		{"HTTPRoute", "{" + rule("timeouts: {request: 1d}, "+backend) + "}", "spec.rules[0].timeouts.request"},
		{"HTTPRoute", "{" + rule("retry: {codes: [399]}, "+backend) + "}", "spec.rules[0].retry.codes[0]"},
		{"HTTPRoute", "{" + rule("retry: {codes: [600]}, "+backend) + "}", "spec.rules[0].retry.codes[0]"},
		{"HTTPRoute", "{" + rule("retry: {codes: [400, 599], attempts: 0, backoff: 1ms}, "+backend) + "}", ""},
		{"HTTPRoute", "{" + rule("retry: {attempts: -1}, "+backend) + "}", "spec.rules[0].retry.attempts"},
		{"HTTPRoute", "{" + rule("retry: {backoff: x}, "+backend) + "}", "spec.rules[0].retry.backoff"},
		{"HTTPRoute", "{" + rule("sessionPersistence: {type: Query}, "+backend) + "}", "spec.rules[0].sessionPersistence.type"},
		{"HTTPRoute", "{" + rule("sessionPersistence: {sessionName: 'a b'}, "+backend) + "}", "spec.rules[0].sessionPersistence.sessionName"},
		{"HTTPRoute", "{" + rule("sessionPersistence: {sessionName: "+long(128)+"}, "+backend) + "}", ""},
		{"HTTPRoute", "{" + rule("sessionPersistence: {sessionName: "+long(129)+"}, "+backend) + "}", "spec.rules[0].sessionPersistence.sessionName"},
		{"HTTPRoute", "{" + rule("sessionPersistence: {cookieConfig: {lifetimeType: Permanent}}, "+backend) + "}", "spec.rules[0].sessionPersistence"},
		{"HTTPRoute", "{" + rule("sessionPersistence: {cookieConfig: {lifetimeType: Long}}, "+backend) + "}", "spec.rules[0].sessionPersistence.cookieConfig.lifetimeType"},
		{"HTTPRoute", "{" + rule("sessionPersistence: {idleTimeout: x}, "+backend) + "}", "spec.rules[0].sessionPersistence.idleTimeout"},
		{"HTTPRoute", "{" + rule("filters: [{type: RequestRedirect, requestRedirect: {}}], "+backend) + "}", "spec.rules[0].backendRefs"},
		{"HTTPRoute", "{" + rule("filters: [{type: RequestRedirect, requestRedirect: {}}]") + "}", ""},

		{"GRPCRoute", "{" + rule("matches: [{method: {service: a.B, method: C}}], "+backend) + "}", ""},
		{"GRPCRoute", "{parentRefs: [{group: '', kind: Service, name: ''}]}", "spec.parentRefs[0].name"},
		{"GRPCRoute", "{" + parent + ", hostnames: ['a_b']}", "spec.hostnames[0]"},
		{"GRPCRoute", "{" + rule("name: 'A B', "+backend) + "}", "spec.rules[0].name"},
		{"GRPCRoute", "{" + rule("matches: [{method: {}}], "+backend) + "}", "spec.rules[0].matches[0].method"},
		{"GRPCRoute", "{" + rule("matches: [{method: {type: Prefix, service: a}}], "+backend) + "}", "spec.rules[0].matches[0].method.type"},
		{"GRPCRoute", "{" + rule("matches: [{method: {service: 'a b'}}], "+backend) + "}", "spec.rules[0].matches[0].method"},
		{"GRPCRoute", "{" + rule("matches: [{method: {type: RegularExpression, method: '('}}], "+backend) + "}", "spec.rules[0].matches[0].method"},
		{"GRPCRoute", "{" + rule("matches: [{headers: [{name: 'a b', value: c}]}], "+backend) + "}", "spec.rules[0].matches[0].headers[0].name"},
		{"GRPCRoute", "{" + rule("backendRefs: [{name: cart}]") + "}", "spec.rules[0].backendRefs[0].port"},
		{"GRPCRoute", "{" + rule("sessionPersistence: {type: Query}, "+backend) + "}", "spec.rules[0].sessionPersistence.type"},

		{"TCPRoute", "{" + rule(backend) + "}", ""},
		{"TCPRoute", "{" + parent + ", rules: []}", "spec.rules"},
		{"TCPRoute", "{" + rule("backendRefs: []") + "}", "spec.rules[0].backendRefs"},
		{"TCPRoute", "{" + rule("name: 'A B', "+backend) + "}", "spec.rules[0].name"},
		{"TCPRoute", "{" + rule("backendRefs: [{name: cart, port: 80, weight: 1000001}]") + "}", "spec.rules[0].backendRefs[0].weight"},
		{"TCPRoute", "{" + rule("backendRefs: [{name: cart}]") + "}", "spec.rules[0].backendRefs[0].port"},
		{"TLSRoute", "{" + rule(backend) + ", hostnames: ['a_b']}", "spec.hostnames[0]"},
		{"TLSRoute", "{parentRefs: [{group: '', kind: Service, name: ''}], rules: [{" + backend + "}]}", "spec.parentRefs[0].name"},
	} {
		objs, err := Parse("test.yaml", []byte("apiVersion: "+kinds[tt.kind]+"\nkind: "+tt.kind+"\nmetadata: {name: a, namespace: shop}\nspec: "+tt.spec))
		if err != nil || len(objs) != 1 {
			t.Fatalf("%s %.200s: %v", tt.kind, tt.spec, err)
		}
		fields, _ := objs[0].Err.(Fields)
		told := false
		for _, f := range fields {
			told = told || f.Path == tt.path && f.Message != ""
		}
		if tt.path == "" && objs[0].Err != nil || tt.path != "" && !told {
			t.Errorf("%s %.200s: %v, want %q", tt.kind, tt.spec, objs[0].Err, tt.path)
		}
	}
}
