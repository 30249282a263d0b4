package routing

import "strings"

// GRPCPath returns the path condition of a GRPCRoute method match, as Istio writes
// it. An empty service or method matches any one segment; both empty match all.
func GRPCPath(service, method string, regex bool) PathMatch {
	const segment = "[^/]+"
	switch {
	case service == "" && method == "":
		return PathMatch{}
	case regex:
		if service == "" {
			service = segment
		}
		if method == "" {
			method = segment
		}
		return PathMatch{Kind: PathRegex, Value: "/" + grouped(service) + "/" + grouped(method)}
	case method == "":
		return PathMatch{Kind: PathPrefix, Value: "/" + service + "/"}
	case service == "":
		// A template compares bytes where a regular expression would run.
		return PathMatch{Kind: PathTemplate, Value: "/{*}/" + method}
	}
	return PathMatch{Kind: PathExact, Value: "/" + service + "/" + method}
}

// grouped keeps an alternation in its own part of the path.
func grouped(expr string) string {
	if strings.Contains(expr, "|") {
		return "(?:" + expr + ")"
	}
	return expr
}
