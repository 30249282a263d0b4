package status

import (
	"encoding/json"

	"waypoint.dev/waypoint/config/kube"
	"waypoint.dev/waypoint/controller/watch"
)

// kept are the kinds that the engine listens to itself: those with a status to write
// and those that a WaypointPolicy can have as a target. All others come to the judges
// with what concerns their Gateways.
func kept(k kube.Key) bool {
	return written(k) || k.Group == "" && k.Kind == "Service" || k.Group == groupGateway && k.Kind == "Gateway"
}

// written are the kinds whose status is kept here.
func written(k kube.Key) bool {
	switch k.Kind {
	case "HTTPRoute", "GRPCRoute", "TLSRoute", "TCPRoute":
		return k.Group == groupGateway
	case "AuthorizationPolicy", "RequestAuthentication":
		return k.Group == groupSecurity
	case "WaypointPolicy":
		return k.Group == groupOwn
	case "XBackendTrafficPolicy":
		return k.Group == "gateway.networking.x-k8s.io"
	}
	return false
}

// Put takes an object.
func (e *Engine) Put(it *watch.Item, content bool) {
	if !kept(it.Key) {
		return
	}
	o := e.decode(it, content)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.put(it, o, content)
	e.wake()
}

// decode reads a WaypointPolicy; nil for all other kinds.
func (e *Engine) decode(it *watch.Item, content bool) *kube.Object {
	if it.Key.Group != groupOwn || !content {
		return nil
	}
	o, err := kube.Decode(it.JSON, it.Key.String())
	if err != nil {
		e.log.Error("an object cannot be read", "object", it.Key.String(), "error", err)
		return nil
	}
	return o
}

func (e *Engine) put(it *watch.Item, o *kube.Object, content bool) {
	if !e.all[it.Key] {
		e.all[it.Key] = true
		e.resay(it.Key)
	}
	if o != nil {
		e.own.put(it.Key, o)
		e.resaid[it.Key] = true
	}
	if !written(it.Key) {
		return
	}
	h := &held{version: it.Version, by: it.Writers}
	if len(it.Status) > 0 && json.Unmarshal(it.Status, &h.status) != nil {
		h.status = nil // nothing of it can be kept
	}
	if old := e.held[it.Key]; old != nil && !content {
		h.foreign = old.foreign
	}
	e.held[it.Key] = h
	e.touched[it.Key] = true
}

// resay notes the policies whose target came or went.
func (e *Engine) resay(target kube.Key) {
	for p := range e.own.byTarget[target] {
		e.resaid[p] = true
	}
}

// Delete forgets an object.
func (e *Engine) Delete(k kube.Key) {
	if !kept(k) {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.drop(k)
	e.wake()
}

func (e *Engine) drop(k kube.Key) {
	delete(e.all, k)
	delete(e.held, k)
	delete(e.touched, k)
	e.own.put(k, nil)
	e.resaid[k] = true
	e.resay(k)
}

// Replace takes all objects of a kind.
func (e *Engine) Replace(group, kind string, items []*watch.Item) {
	if !kept(kube.Key{Group: group, Kind: kind}) {
		return
	}
	objs := make([]*kube.Object, len(items))
	for i, it := range items {
		objs[i] = e.decode(it, true)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	have := make(map[kube.Key]bool, len(items))
	for i, it := range items {
		have[it.Key] = true
		e.put(it, objs[i], true)
	}
	for k := range e.all {
		if k.Group == group && k.Kind == kind && !have[k] {
			e.drop(k)
		}
	}
	e.wake()
}
