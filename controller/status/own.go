package status

import (
	"waypoint.dev/waypoint/config/kube"
)

// own judges what no waypoint can say of a WaypointPolicy, which is our own kind and
// nobody else's to speak of: that it cannot be read, or has a target that is missing.
// No waypoint may have such a policy among its objects.
type own struct {
	policies map[kube.Key]*kube.Object
	byTarget map[kube.Key]map[kube.Key]bool // policies by what they are to act on
}

func newOwn() own {
	return own{policies: map[kube.Key]*kube.Object{}, byTarget: map[kube.Key]map[kube.Key]bool{}}
}

// put takes a new version of a policy; nil: it is gone.
func (x *own) put(k kube.Key, o *kube.Object) {
	for _, t := range ownTargets(x.policies[k]) {
		if delete(x.byTarget[t], k); len(x.byTarget[t]) == 0 {
			delete(x.byTarget, t)
		}
	}
	if o == nil {
		delete(x.policies, k)
		return
	}
	x.policies[k] = o
	for _, t := range ownTargets(o) {
		if x.byTarget[t] == nil {
			x.byTarget[t] = map[kube.Key]bool{}
		}
		x.byTarget[t][k] = true
	}
}

// ownTargets are the objects that a policy is to act on; none of one that cannot be
// read.
func ownTargets(o *kube.Object) (out []kube.Key) {
	if o == nil || o.Err != nil {
		return nil
	}
	for _, t := range o.Body.(*kube.WaypointPolicy).TargetRefs {
		out = append(out, kube.Key{Group: t.Group, Kind: t.Kind, Namespace: o.Namespace, Name: t.Name})
	}
	return out
}

// say adds what is said of a policy; exists knows all that could be a target.
func (x *own) say(k kube.Key, exists map[kube.Key]bool, d *desired) {
	o := x.policies[k]
	if o == nil {
		return
	}
	p := kube.PolicyStatus{Group: k.Group, Kind: k.Kind, Namespace: k.Namespace, Name: k.Name, Generation: o.Meta.Generation}
	add := func(t kube.TargetRef, reason, message string) {
		p.Targets = append(p.Targets, kube.TargetStatus{Ref: t, Ours: true, Condition: kube.Condition{
			Type: "Accepted", Reason: reason, Message: message, ObservedGeneration: o.Meta.Generation}})
	}
	if o.Err != nil {
		add(kube.TargetRef{}, "Invalid", o.Err.Error())
	}
	for i, t := range ownTargets(o) {
		if !exists[t] {
			add(o.Body.(*kube.WaypointPolicy).TargetRefs[i], "TargetNotFound", t.Kind+" "+t.Name+" does not exist")
		}
	}
	d.policy(&p)
}
