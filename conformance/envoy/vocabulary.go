package envoy

import "slices"

// pools are the values that generated rules use, in every form a field takes.
var pools = map[string][]string{
	"principals":                {"cluster.local/ns/clients/sa/curl", "cluster.local/ns/shop/*", "*/sa/bot", "*", "cluster.local/ns/shop/sa/car"},
	"namespaces":                {"clients", "shop", "shop*", "evil-*", "*trusted"},
	"serviceAccounts":           {"clients/curl", "shop/cart", "oracle/none", "untrusted/bot"},
	"ipBlocks":                  {"127.8.20.0/24", "127.8.21.1", "127.8.22.0/30", "127.0.0.0/8"},
	"remoteIpBlocks":            {"127.8.20.0/24", "203.0.113.0/24", "198.51.100.7"},
	"hosts":                     {"web.example.com", "*.example.com", "web.*", "shop.example.org", "*"},
	"methods":                   {"GET", "POST", "P*", "*E", "*"},
	"ports":                     {"80", "8080"},
	"paths":                     {"/api/v1", "/api/*", "*/admin", "*", "/v1/{*}", "/v1/{**}", "/{*}/items", "/{**}/end", "/a/{*}/b/{**}", "/static/*", "/x.y/{*}", "/a/*/b", "/"},
	"request.headers[x-team]":   {"blue", "green*", "*een", "*", "a,b"},
	"request.headers[X-Tenant]": {"1", "tenant-*"},
	"source.ip":                 {"127.8.20.1", "127.8.21.0/24"},
	"remote.ip":                 {"203.0.113.0/24", "127.8.20.0/23"},
	"source.namespace":          {"clients", "shop-*"},
	"source.principal":          {"cluster.local/ns/shop/sa/cart", "*/bot"},
	"destination.port":          {"80", "81"},
	"trustDomains":              {"cluster.local", "other.example", "*.local", "cluster*", "*"},
	"source.trustDomain":        {"cluster.local", "*.local", "other*"},
	"connection.sni":            {"www.example.com", "*.example.com", "api.*", "*"},
	"source.serviceAccount":     {"clients/curl", "shop/cart", "none"},
	"destination.ip":            {"10.97.1.0/24", "10.97.0.0/16", "192.0.2.1"},

	"requestPrincipals":                  {"*", "first@example.com/*", "first@example.com/ann", "*/bob", "first@*", "*@example.com/ann", "second@example.com/b*", "*nn", "nobody"},
	"request.auth.principal":             {"first@example.com/*", "*/ann", "second@example.com/bob"},
	"request.auth.audiences":             {"shop", "web*", "*op", "*"},
	"request.auth.presenter":             {"bot", "b*", "*"},
	"request.auth.claims[groups]":        {"admin", "dev-*", "*s", "*"},
	"request.auth.claims[nested][group]": {"banned", "b*", "*"},
	"request.auth.claims[scope]":         {"read", "write", "re*"},
	"request.auth.claims[level]":         {"5", "true", "*"},
}

var (
	sources    = []string{"principals", "namespaces", "serviceAccounts", "remoteIpBlocks", "trustDomains"}
	operations = []string{"hosts", "methods", "ports", "paths", "paths", "paths"}
	conditions = []string{"request.headers[x-team]", "request.headers[X-Tenant]", "remote.ip", "source.namespace", "source.principal", "source.serviceAccount", "destination.port", "destination.ip"}

	claimConditions = []string{"request.auth.principal", "request.auth.audiences", "request.auth.presenter", "request.auth.claims[groups]",
		"request.auth.claims[nested][group]", "request.auth.claims[scope]", "request.auth.claims[level]"}
	// What a connection has without HTTP.
	tcpSources    = []string{"principals", "namespaces", "serviceAccounts", "trustDomains"}
	tcpConditions = []string{"source.namespace", "source.principal", "source.serviceAccount", "destination.port", "destination.ip"}
)

// vocabulary is what rules are made of.
type vocabulary struct{ sources, operations, conditions []string }

var (
	httpWords   = vocabulary{sources, operations, conditions}
	directWords = vocabulary{append([]string{"ipBlocks", "ipBlocks", "ipBlocks"}, sources...), operations, append([]string{"source.ip", "source.ip", "source.ip", "source.ip"}, conditions...)}
	claimWords  = vocabulary{append([]string{"requestPrincipals", "requestPrincipals", "requestPrincipals"}, sources...), operations, append(claimConditions, claimConditions...)}
	tcpWords    = vocabulary{tcpSources, []string{"ports"}, tcpConditions}
	// allWords is everything, for where no proxy has to have it.
	allWords = vocabulary{append([]string{"ipBlocks", "requestPrincipals"}, sources...), operations, slices.Concat(conditions, claimConditions, []string{"source.ip", "connection.sni", "source.trustDomain"})}
)
