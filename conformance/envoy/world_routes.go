package envoy

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// ordered is a match of a rule with its rank.
type ordered struct {
	rule  *RouteRule
	match RouteMatch
	rank  [5]int
}

// routes orders all matches as istiod does and writes each as a route.
func (w *World) routes(s *Subject) []any {
	if len(s.Routes) == 0 {
		r := w.action(clusterName(s.Host(w.Namespace)), nil)
		return []any{Object{"name": "default", "match": Object{"prefix": "/"}, "route": r, "decorator": Object{"operation": s.Name + ":80/*"}}}
	}
	var out []any
	for _, o := range w.ordered(s) {
		out = append(out, w.route(s, o.rule, o.match))
	}
	return out
}

// ordered are the matches of all rules of a subject in istiod's order.
func (w *World) ordered(s *Subject) []ordered {
	var all []ordered
	for i := range s.Routes {
		r := &s.Routes[i]
		ms := r.Matches
		if len(ms) == 0 {
			ms = []RouteMatch{{PathKind: "PathPrefix", Path: "/"}}
		}
		for _, m := range ms {
			kind := map[string]int{"Exact": 3, "PathPrefix": 2, "RegularExpression": 1}[m.PathKind]
			method := 0
			if m.Method != "" {
				method = 1
			}
			length := len(m.Path)
			if m.PathKind == "PathPrefix" {
				length = max(1, len(strings.TrimSuffix(m.Path, "/"))) // istiod sorts what it has translated
			}
			all = append(all, ordered{r, m, [5]int{kind, length, method, len(m.Headers), len(m.Query)}})
		}
	}
	slices.SortStableFunc(all, func(a, b ordered) int {
		for i := range a.rank {
			if c := cmp.Compare(b.rank[i], a.rank[i]); c != 0 {
				return c
			}
		}
		return 0
	})
	return all
}

func (w *World) route(s *Subject, r *RouteRule, m RouteMatch) Object {
	match := Object{"case_sensitive": true}
	switch {
	case m.PathKind == "Exact":
		match["path"] = m.Path
	case m.PathKind == "RegularExpression":
		match["safe_regex"] = Object{"regex": m.Path}
	case m.Path == "" || m.Path == "/":
		match["prefix"] = "/"
	default:
		match["path_separated_prefix"] = strings.TrimSuffix(m.Path, "/")
	}
	var headers []any
	for _, h := range m.Headers {
		headers = append(headers, Object{"name": h.Name, "string_match": h.matcher()})
	}
	if m.Method != "" {
		headers = append(headers, Object{"name": ":method", "string_match": Object{"exact": m.Method}})
	}
	if headers != nil {
		match["headers"] = headers
	}
	var query []any
	for _, q := range m.Query {
		query = append(query, Object{"name": q.Name, "string_match": q.matcher()})
	}
	if query != nil {
		match["query_parameters"] = query
	}
	out := Object{"name": r.Name, "match": match, "decorator": Object{"operation": r.Name}}
	edits(out, &r.Request, &r.Response)
	filters := Object{}
	if r.Abort != nil {
		f := typed("extensions.filters.http.fault.v3.HTTPFault")
		abort := Object{"percentage": Object{"numerator": 1000000, "denominator": "MILLION"}}
		if r.Abort.Status != 0 {
			abort["http_status"] = r.Abort.Status
		} else {
			abort["grpc_status"] = r.Abort.GRPC
		}
		f["abort"] = abort
		filters["envoy.filters.http.fault"] = f
	}
	if c := r.CORS; c != nil {
		filters["envoy.filters.http.cors"] = c.envoy()
	}
	if len(filters) > 0 {
		out["typed_per_filter_config"] = filters
	}
	if d := r.Redirect; d != nil {
		out["redirect"] = d.envoy(m)
		return out
	}
	own := ""
	if len(r.Backends) == 0 {
		own = clusterName(s.Host(w.Namespace))
	}
	a := w.action(own, r.Backends)
	r.resilience(a)
	a["cluster_not_found_response_code"] = "INTERNAL_SERVER_ERROR"
	if rw := r.Rewrite; rw != nil {
		if rw.Host != "" {
			a["host_rewrite_literal"] = rw.Host
		}
		if rw.Full != nil {
			a["regex_rewrite"] = Object{"pattern": Object{"regex": "/.*"}, "substitution": *rw.Full}
		}
		if rw.Prefix != nil {
			prefix, to := strings.TrimSuffix(m.Path, "/"), *rw.Prefix
			if strings.Trim(to, "/") == "" {
				a["regex_rewrite"] = Object{"pattern": Object{"regex": "^" + prefix + `(/?)(.*)`}, "substitution": `/\2`}
			} else {
				a["prefix_rewrite"] = strings.TrimSuffix(to, "/")
			}
		}
	}
	out["route"] = a
	return out
}

// resilience sets timeouts and retries of a route's action.
func (r *RouteRule) resilience(a Object) {
	if r.Timeout != "" {
		a["timeout"], a["max_grpc_timeout"] = r.Timeout, r.Timeout
	}
	if r.Retry == nil {
		return
	}
	p := a["retry_policy"].(Object)
	p["num_retries"] = r.Retry.Attempts
	if r.Retry.On != "" {
		p["retry_on"] = r.Retry.On
	}
	if r.Retry.Codes != nil {
		if !strings.Contains(str(p["retry_on"]), "retriable-status-codes") {
			p["retry_on"] = str(p["retry_on"]) + ",retriable-status-codes"
		}
		p["retriable_status_codes"] = r.Retry.Codes
	}
	if r.Retry.PerTry != "" {
		p["per_try_timeout"] = r.Retry.PerTry
	}
	if r.Retry.Backoff != "" {
		p["retry_back_off"] = Object{"base_interval": r.Retry.Backoff}
	}
	if r.Retry.Attempts == 0 {
		delete(a, "retry_policy")
	}
}

func (v ValueMatch) matcher() Object {
	if v.Regex {
		return Object{"safe_regex": Object{"regex": v.Value}}
	}
	return Object{"exact": v.Value}
}

// action is a RouteAction with istiod's default retries.
func (w *World) action(cluster string, backends []WeightedBackend) Object {
	a := Object{"timeout": "0s", "max_grpc_timeout": "0s", "retry_policy": Object{
		"retry_on": "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes", "num_retries": 2,
		"retry_host_predicate": []any{Object{"name": "envoy.retry_host_predicates.previous_hosts",
			"typed_config": typed("extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate")}},
		"host_selection_retry_max_attempts": "5",
	}}
	if len(backends) == 1 {
		cluster = clusterName(backends[0].Name + "." + w.Namespace + ".svc.cluster.local")
	}
	if cluster != "" && (len(backends) == 0 || backends[0].Request.empty() && backends[0].Response.empty()) {
		a["cluster"] = cluster
		return a
	}
	var list []any
	for _, b := range backends {
		c := Object{"name": clusterName(b.Name + "." + w.Namespace + ".svc.cluster.local"), "weight": b.Weight}
		edits(c, &b.Request, &b.Response)
		list = append(list, c)
	}
	a["weighted_clusters"] = Object{"clusters": list}
	return a
}

func edits(o Object, request, response *HeaderOps) {
	for name, ops := range map[string]*HeaderOps{"request": request, "response": response} {
		var add, remove []any
		for _, h := range ops.Set {
			add = append(add, Object{"header": Object{"key": h[0], "value": h[1]}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"})
		}
		for _, h := range ops.Add {
			add = append(add, Object{"header": Object{"key": h[0], "value": h[1]}})
		}
		for _, h := range ops.Remove {
			remove = append(remove, h)
		}
		if add != nil {
			o[name+"_headers_to_add"] = add
		}
		if remove != nil {
			o[name+"_headers_to_remove"] = remove
		}
	}
}

func (d *Redirect) envoy(m RouteMatch) Object {
	o := Object{}
	if d.Scheme != "" {
		o["scheme_redirect"] = d.Scheme
	}
	if d.Host != "" {
		o["host_redirect"] = d.Host
	}
	port, https := d.Port, d.Scheme == "https"
	if port == 0 && d.Scheme == "" {
		port = 80 // of the listener
	}
	if port != 0 && (https || port != 80) && (!https || port != 443) { // istiod leaves out what the scheme implies
		o["port_redirect"] = port
	}
	if c := map[int]string{302: "FOUND", 303: "SEE_OTHER", 307: "TEMPORARY_REDIRECT", 308: "PERMANENT_REDIRECT"}[d.Status]; c != "" {
		o["response_code"] = c
	}
	if d.Full != nil {
		o["path_redirect"] = *d.Full
	}
	if d.Prefix != nil {
		o["prefix_rewrite"] = *d.Prefix
	}
	return o
}

func (c *CORS) envoy() Object {
	o := typed("extensions.filters.http.cors.v3.CorsPolicy")
	var origins []any
	for _, s := range c.Origins {
		switch {
		case s == "*":
			origins = append(origins, Object{"safe_regex": Object{"regex": ".*"}})
		case strings.Contains(s, "*"):
			origins = append(origins, Object{"safe_regex": Object{"regex": "^" + strings.ReplaceAll(regexp.QuoteMeta(s), `\*`, ".*") + "$"}})
		default:
			origins = append(origins, Object{"exact": s})
		}
	}
	maps.Copy(o, Object{
		"allow_origin_string_match": origins, "allow_methods": strings.Join(c.Methods, ","), "allow_headers": strings.Join(c.Headers, ","),
		"expose_headers": strings.Join(c.Expose, ","), "max_age": fmt.Sprint(c.MaxAge), "allow_credentials": c.Credentials,
		"filter_enabled": Object{"default_value": Object{"numerator": 100}}, "forward_not_matching_preflights": false,
	})
	return o
}
