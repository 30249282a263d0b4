package kube

import (
	"slices"
	"strings"

	"waypoint.dev/waypoint/config"
)

// Labels by which workloads and services choose a waypoint.
const (
	labelUse     = "istio.io/use-waypoint"
	labelUseNS   = "istio.io/use-waypoint-namespace"
	labelFor     = "istio.io/waypoint-for"
	labelManaged = "gateway.istio.io/managed"
	labelMode    = "istio.io/dataplane-mode"
	labelGateway = "gateway.networking.k8s.io/gateway-name" // on a waypoint's pods
	labelService = "kubernetes.io/service-name"             // on an EndpointSlice

	controllerIstio = "istio.io/mesh-controller"
	controllerOwn   = "waypoint.dev/"
)

// findGateway finds the Gateway that this waypoint runs for.
func (r *build) findGateway() {
	own := r.opts.Waypoint
	r.mesh.Waypoint = own
	if own.Name != "" {
		r.gw = r.objs.Get(Key{groupGateway, "Gateway", own.Namespace, own.Name})
		if r.gw == nil {
			*r.sink = append(*r.sink, config.Problem{
				Severity: config.Error, Kind: "Gateway", Namespace: own.Namespace, Name: own.Name,
				Reason: "NoGateway", Message: "the Gateway of this waypoint does not exist; nothing is served",
			})
			return
		}
	} else {
		var names []string
		for _, g := range r.objs.All(groupGateway, "Gateway") {
			if r.isWaypoint(g) {
				names = append(names, g.Namespace+"/"+g.Name)
				r.gw = g
			}
		}
		if len(names) != 1 {
			r.gw = nil
			msg := "there is no Gateway of a waypoint class, so nothing is served: write one with gatewayClassName istio-waypoint" + r.otherGateways()
			if len(names) > 1 {
				slices.Sort(names)
				msg = "there are several waypoint Gateways (" + strings.Join(names, ", ") + "); nothing is served: name the one to run with --waypoint"
			}
			*r.sink = append(*r.sink, config.Problem{Severity: config.Error, Kind: "Gateway", Reason: "NoGateway", Message: msg})
			return
		}
	}
	g := r.gw.Body.(*Gateway)
	r.mesh.Waypoint = config.Owner{Namespace: r.gw.Namespace, Name: r.gw.Name, Class: g.Spec.GatewayClassName}
}

// otherGateways names the Gateways that there are besides waypoints.
func (r *build) otherGateways() string {
	var names []string
	for _, g := range r.objs.All(groupGateway, "Gateway") {
		names = append(names, g.Namespace+"/"+g.Name+" of class "+g.Body.(*Gateway).Spec.GatewayClassName)
	}
	if len(names) == 0 {
		return ""
	}
	slices.Sort(names)
	const most = 5
	if more := len(names) - most; more > 0 {
		names = append(names[:most], "others")
	}
	return "; there is " + strings.Join(names, ", ")
}

// isWaypoint reports whether the Gateway is of a waypoint class.
func (r *build) isWaypoint(o *Object) bool {
	class := o.Body.(*Gateway).Spec.GatewayClassName
	if c := r.objs.Get(Key{groupGateway, "GatewayClass", "", class}); c != nil {
		ctl := c.Body.(*GatewayClass).Spec.ControllerName
		return ctl == controllerIstio || strings.HasPrefix(ctl, controllerOwn) || strings.Contains(ctl, "waypoint")
	}
	return class == "istio-waypoint" || class == "waypoint"
}

// covers reports whether a waypoint takes traffic to that kind, "service" or "workload".
func (r *build) covers(gw *Object, kind string) bool {
	v, ok := gw.Meta.Labels[labelFor]
	if !ok {
		if c := r.objs.Get(Key{groupGateway, "GatewayClass", "", gw.Body.(*Gateway).Spec.GatewayClassName}); c != nil {
			v = c.Meta.Labels[labelFor]
		}
	}
	switch v {
	case "":
		return kind == "service"
	case "all":
		return true
	case "service", "workload":
		return v == kind
	case "none":
		return false
	}
	r.problem(config.Warning, gw, "metadata.labels["+labelFor+"]", "Invalid", "%q is none of service, workload, all, none; nothing is bound", v)
	return false
}

// waypointOf returns the Gateway that an object chose, itself or by its namespace,
// nil for none.
func (r *build) waypointOf(o *Object, kind string) *Object {
	switch m := o.Meta.Labels[labelManaged]; m {
	case "istio.io-mesh-controller", "istio.io-eastwest-controller":
		return nil // a waypoint's own Service and pods never have a waypoint
	}
	inherited := false
	name, ns, from := r.choice(o, o.Namespace)
	if name == "" {
		space := r.namespaces[o.Namespace]
		if space == nil {
			return nil
		}
		name, ns, from = r.choice(space, o.Namespace)
		inherited = true
	}
	if name == "" || name == "none" {
		return nil
	}
	gw := r.objs.Get(Key{groupGateway, "Gateway", ns, name})
	if gw == nil {
		r.problem(config.Warning, from, "metadata.labels["+labelUse+"]", "WaypointNotFound",
			"Gateway %s/%s does not exist; Istio sends the traffic past any waypoint", ns, name)
		return nil
	}
	if ns != o.Namespace && !r.allows(gw, o.Namespace) {
		r.problem(config.Warning, o, "metadata.labels["+labelUse+"]", "NotAllowedByListeners",
			"Gateway %s/%s does not allow namespace %s (listeners[].allowedRoutes); the waypoint is not used", ns, name, o.Namespace)
		return nil
	}
	if !r.covers(gw, kind) {
		if !inherited {
			r.problem(config.Warning, o, "metadata.labels["+labelUse+"]", "UnsupportedTrafficType",
				"Gateway %s/%s does not take traffic to a %s (label %s); the waypoint is not used", ns, name, kind, labelFor)
		}
		return nil
	}
	return gw
}

// choice reads the labels, or annotations, of one object.
func (r *build) choice(o *Object, ns string) (name, namespace string, from *Object) {
	m := o.Meta.Labels
	if m[labelUse] == "" {
		if m = o.Meta.Annotations; m[labelUse] == "" {
			return "", "", nil
		}
		r.problem(config.Warning, o, "metadata.annotations["+labelUse+"]", "AnnotationForm",
			"taken as the label %s, which is all that istiod knows; make it a label", labelUse)
	}
	if x := m[labelUseNS]; x != "" {
		ns = x
	}
	return m[labelUse], ns, o
}

// allows reports whether a Gateway's HBONE listeners admit objects of a namespace.
func (r *build) allows(gw *Object, ns string) bool {
	ls := gw.Body.(*Gateway).Spec.Listeners
	hbone := false
	for _, l := range ls {
		hbone = hbone || l.Protocol == "HBONE"
	}
	for _, l := range ls {
		if hbone && l.Protocol != "HBONE" || l.AllowedRoutes == nil || l.AllowedRoutes.Namespaces == nil {
			continue // the default is Same
		}
		switch a := l.AllowedRoutes.Namespaces; a.From {
		case "All":
			return true
		case "Selector":
			labels := map[string]string{"kubernetes.io/metadata.name": ns}
			if o := r.namespaces[ns]; o != nil {
				for k, v := range o.Meta.Labels {
					labels[k] = v
				}
			}
			if a.Selector.matches(labels) {
				return true
			}
		}
	}
	return false
}

// sameObject compares Gateways by name.
func sameObject(a, b *Object) bool { return a != nil && b != nil && a.Key == b.Key }
