package envoy

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Manifests are the world's Kubernetes objects for the subjects of one
// normalization, which is a setting of the mesh there.
func (w *World) Manifests(norm string) []byte {
	items := []any{
		w.object("v1", "Namespace", "", Object{}, Object{"labels": Object{"istio.io/dataplane-mode": "ambient", "istio.io/use-waypoint": "waypoint"}, "name": w.Namespace}),
		w.object("gateway.networking.k8s.io/v1", "Gateway", "waypoint", Object{"spec": Object{
			"gatewayClassName": "istio-waypoint", "listeners": []any{Object{"name": "mesh", "port": 15008, "protocol": "HBONE"}}}}, nil),
		w.pod("subject", SubjectPod), w.pod("nobody", downPod),
	}
	items = append(items, w.providerObjects()...)
	for i, b := range w.Backends {
		items = append(items, w.pod(b, w.podOf(b)), w.service(b, fmt.Sprint("10.97.0.", 1+i), httpPort), w.slice(b, b, w.podOf(b), httpPort))
	}
	for _, s := range w.Subjects {
		if s.Norm != norm || s.onlyIstiod() {
			continue
		}
		items = append(items, w.service(s.Name, s.VIP(), s.kubePort()))
		if s.Pods != "none" {
			items = append(items, w.slice(s.Name, s.pod(), s.podAddress(), s.kubePort()))
		}
		if rule := s.Pool.kube(w, s); rule != nil {
			items = append(items, rule)
		}
		if len(s.JWT) > 0 {
			items = append(items, w.requestAuthentication(s))
		}
		if len(s.Routes) > 0 {
			var rules []any
			for i := range s.Routes {
				r := s.Routes[i]
				if len(r.Backends) == 0 && r.Redirect == nil {
					r.Backends = []WeightedBackend{{Name: s.Name, Weight: 1}}
				}
				rules = append(rules, r.kube())
			}
			items = append(items, w.object("gateway.networking.k8s.io/v1", "HTTPRoute", s.Name, Object{"spec": Object{
				"parentRefs": []any{Object{"group": "", "kind": "Service", "name": s.Name, "port": 80}}, "rules": rules}}, nil))
		}
		for _, p := range s.Policies {
			spec := Object{"targetRefs": []any{Object{"group": "", "kind": "Service", "name": s.Name}}, "action": p.Action}
			if p.Provider != "" {
				spec["provider"] = Object{"name": p.Provider}
			}
			if len(p.Rules) > 0 {
				var rules []any
				for i := range p.Rules {
					rules = append(rules, p.Rules[i].kube())
				}
				spec["rules"] = rules
			}
			items = append(items, w.object("security.istio.io/v1", "AuthorizationPolicy", p.Name, Object{"spec": spec}, nil))
		}
	}
	b, err := json.Marshal(Object{"apiVersion": "v1", "kind": "List", "items": items})
	if err != nil {
		panic(err) // maps, lists and strings only
	}
	return b
}

func (w *World) object(version, kind, name string, o, meta Object) Object {
	if meta == nil {
		meta = Object{"name": name, "namespace": w.Namespace}
	}
	o["apiVersion"], o["kind"], o["metadata"] = version, kind, meta
	return o
}

func (w *World) pod(name, ip string) Object {
	return w.object("v1", "Pod", name, Object{
		"spec":   Object{"serviceAccountName": name},
		"status": Object{"phase": "Running", "podIP": ip, "podIPs": []any{Object{"ip": ip}}, "conditions": []any{Object{"type": "Ready", "status": "True"}}},
	}, nil)
}

// kubePort is a port of a Service, as its objects say it.
type kubePort struct {
	name, appProtocol string
	number, target    int
}

var httpPort = kubePort{"http", "", 80, backendPort}

func (s *Subject) kubePort() kubePort {
	switch {
	case s.TCP:
		return kubePort{"tcp", "", s.port(), backendPort}
	case s.HTTP2:
		return kubePort{"http", "kubernetes.io/h2c", s.port(), backendPort}
	}
	return httpPort
}

func (w *World) service(name, vip string, p kubePort) Object {
	port := Object{"name": p.name, "port": p.number, "targetPort": p.target}
	if p.appProtocol != "" {
		port["appProtocol"] = p.appProtocol
	}
	return w.object("v1", "Service", name, Object{"spec": Object{"clusterIP": vip, "clusterIPs": []any{vip}, "selector": Object{"app": name}, "ports": []any{port}}}, nil)
}

func (w *World) slice(service, pod, ip string, p kubePort) Object {
	return w.object("discovery.k8s.io/v1", "EndpointSlice", service+"-x", Object{
		"addressType": "IPv4", "ports": []any{Object{"name": p.name, "port": p.target, "protocol": "TCP"}},
		"endpoints": []any{Object{"addresses": []any{ip}, "conditions": Object{"ready": true}, "targetRef": Object{"kind": "Pod", "name": pod, "namespace": w.Namespace}}},
	}, Object{"name": service + "-x", "namespace": w.Namespace, "labels": Object{"kubernetes.io/service-name": service}})
}

// onlyIstiod reports whether a subject has what no HTTPRoute can say.
func (s *Subject) onlyIstiod() bool {
	if s.Manager != nil || s.Formats || s.Quiet {
		return true
	}
	for i := range s.Routes {
		r := &s.Routes[i]
		if r.Abort != nil || r.Retry != nil && r.Retry.On != "" {
			return true
		}
	}
	return false
}

func (r *RouteRule) kube() Object {
	out := Object{"name": r.Name}
	var matches, filters, backends []any
	for _, m := range r.Matches {
		matches = append(matches, m.kube())
	}
	if matches != nil {
		out["matches"] = matches
	}
	if !r.Request.empty() {
		filters = append(filters, Object{"type": "RequestHeaderModifier", "requestHeaderModifier": r.Request.kube()})
	}
	if !r.Response.empty() {
		filters = append(filters, Object{"type": "ResponseHeaderModifier", "responseHeaderModifier": r.Response.kube()})
	}
	if rw := r.Rewrite; rw != nil {
		o := Object{}
		if rw.Host != "" {
			o["hostname"] = rw.Host
		}
		pathModifier(o, rw.Full, rw.Prefix)
		filters = append(filters, Object{"type": "URLRewrite", "urlRewrite": o})
	}
	if d := r.Redirect; d != nil {
		o := Object{}
		if d.Scheme != "" {
			o["scheme"] = d.Scheme
		}
		if d.Host != "" {
			o["hostname"] = d.Host
		}
		if d.Port != 0 {
			o["port"] = d.Port
		}
		if d.Status != 0 {
			o["statusCode"] = d.Status
		}
		pathModifier(o, d.Full, d.Prefix)
		filters = append(filters, Object{"type": "RequestRedirect", "requestRedirect": o})
	}
	if c := r.CORS; c != nil {
		filters = append(filters, Object{"type": "CORS", "cors": Object{"allowOrigins": c.Origins, "allowMethods": c.Methods, "allowHeaders": c.Headers,
			"exposeHeaders": c.Expose, "allowCredentials": c.Credentials, "maxAge": c.MaxAge}})
	}
	if filters != nil {
		out["filters"] = filters
	}
	timeouts := Object{}
	if t := r.Retry; t != nil {
		o := Object{"attempts": t.Attempts}
		if t.Codes != nil {
			o["codes"] = t.Codes
		}
		if t.Backoff != "" {
			o["backoff"] = millis(t.Backoff)
		}
		if t.PerTry != "" {
			timeouts["backendRequest"] = millis(t.PerTry)
		}
		out["retry"] = o
	}
	if r.Timeout != "" {
		timeouts["request"] = millis(r.Timeout)
	}
	if len(timeouts) > 0 {
		out["timeouts"] = timeouts
	}
	for _, b := range r.Backends {
		o := Object{"group": "", "kind": "Service", "name": b.Name, "port": 80, "weight": b.Weight}
		var own []any
		if !b.Request.empty() {
			own = append(own, Object{"type": "RequestHeaderModifier", "requestHeaderModifier": b.Request.kube()})
		}
		if !b.Response.empty() {
			own = append(own, Object{"type": "ResponseHeaderModifier", "responseHeaderModifier": b.Response.kube()})
		}
		if own != nil {
			o["filters"] = own
		}
		backends = append(backends, o)
	}
	if backends != nil {
		out["backendRefs"] = backends
	}
	return out
}

// millis writes a duration as the Gateway API reads it, which knows no fractions.
func millis(d string) string {
	t, err := time.ParseDuration(d)
	if err != nil {
		panic(err) // durations of worlds are constants
	}
	return fmt.Sprint(t.Milliseconds(), "ms")
}

func pathModifier(o Object, full, prefix *string) {
	if full != nil {
		o["path"] = Object{"type": "ReplaceFullPath", "replaceFullPath": *full}
	}
	if prefix != nil {
		o["path"] = Object{"type": "ReplacePrefixMatch", "replacePrefixMatch": *prefix}
	}
}

func (m *RouteMatch) kube() Object {
	o := Object{}
	if m.PathKind != "" {
		o["path"] = Object{"type": m.PathKind, "value": m.Path}
	}
	if m.Method != "" {
		o["method"] = m.Method
	}
	if l := valueMatches(m.Headers); l != nil {
		o["headers"] = l
	}
	if l := valueMatches(m.Query); l != nil {
		o["queryParams"] = l
	}
	return o
}

func valueMatches(vs []ValueMatch) []any {
	var out []any
	for _, v := range vs {
		kind := "Exact"
		if v.Regex {
			kind = "RegularExpression"
		}
		out = append(out, Object{"name": v.Name, "value": v.Value, "type": kind})
	}
	return out
}

func (h *HeaderOps) kube() Object {
	o := Object{}
	for k, l := range map[string][][2]string{"set": h.Set, "add": h.Add} {
		var out []any
		for _, e := range l {
			out = append(out, Object{"name": e[0], "value": e[1]})
		}
		if out != nil {
			o[k] = out
		}
	}
	if h.Remove != nil {
		o["remove"] = h.Remove
	}
	return o
}

func (r *PolicyRule) kube() Object {
	o := Object{}
	side := func(key, inner string, fs []Fields) {
		var out []any
		for _, f := range fs {
			out = append(out, Object{inner: f})
		}
		if out != nil {
			o[key] = out
		}
	}
	side("from", "source", r.From)
	side("to", "operation", r.To)
	var when []any
	for _, c := range r.When {
		w := Object{"key": c.Key}
		if c.Values != nil {
			w["values"] = c.Values
		}
		if c.NotValues != nil {
			w["notValues"] = c.NotValues
		}
		when = append(when, w)
	}
	if when != nil {
		o["when"] = when
	}
	return o
}

// normOf is the mesh setting of a name.
func normOf(name string) (n int, ok bool) {
	for i, s := range norms {
		if strings.EqualFold(s, name) {
			return i, true
		}
	}
	return 0, false
}

// norms are the values of meshConfig.pathNormalization, in the order of config.Normalization.
var norms = []string{"BASE", "NONE", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES"}
