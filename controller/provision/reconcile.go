package provision

import (
	"context"
	"encoding/json"
	"errors"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

var (
	gatewayResource = schema.GroupVersionResource{Group: gatewayGroup, Version: "v1", Resource: "gateways"}
	classResource   = schema.GroupVersionResource{Group: gatewayGroup, Version: "v1", Resource: "gatewayclasses"}
)

// view is what reconcile needs to know of one Gateway.
type view struct {
	gw       *gateway
	children []*child
	input    Input
	params   error
	attached int32
}

// look collects it. act is false if there is nothing to do now; foreign says that
// the Gateway is of another controller.
func (r *Reconciler) look(n name) (v view, act, foreign bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	g := r.gateways[n]
	if g == nil {
		return v, false, false
	}
	v.gw, v.attached = g, r.attached[n]
	for _, c := range r.children {
		if c.owner == string(g.spec.Metadata.UID) && c.owner != "" {
			v.children = append(v.children, c)
		}
	}
	ours, known := r.ours(g.spec.Spec.GatewayClassName)
	if !known {
		return v, false, false // a class that is gone for a moment takes nothing down
	}
	if !ours {
		return v, len(v.children) > 0, true
	}
	if !r.makes() {
		if c := r.services[n]; c != nil {
			v.children = append(v.children, c)
		}
		return v, true, false
	}
	v.input.Gateway = g.spec
	var ready, readyToo bool
	if v.input.Class, ready, v.params = r.parameters(r.classes[g.spec.Spec.GatewayClassName].spec.Spec.ParametersRef, ""); !ready {
		return v, false, false
	}
	if i := g.spec.Spec.Infrastructure; i != nil {
		var err error
		if v.input.Own, readyToo, err = r.parameters(i.ParametersRef, n.namespace); !readyToo {
			return v, false, false
		}
		v.params = errors.Join(v.params, err)
	}
	return v, true, false
}

// patience is how often what may pass is tried again before the status tells of it:
// three seconds with the queue's pauses. An admission webhook that is down looks like it.
const patience = 4

// reconcile brings one Gateway's objects and status to what they should be. It has
// failed that many times already.
func (r *Reconciler) reconcile(ctx context.Context, n name, failures int) error {
	v, act, foreign := r.look(n)
	if !act {
		if v.gw == nil {
			r.forget(n)
		}
		return nil
	}
	if foreign {
		// Whoever has it now says what becomes of it. This comes first: with the objects
		// gone nothing would lead here again.
		if err := r.applyStatus(ctx, gatewayResource, "Gateway", n, struct{}{}); err != nil {
			return err
		}
		return r.remove(ctx, v.children, func(*child) bool { return true })
	}
	if !v.gw.spec.Metadata.DeletionTimestamp.IsZero() {
		return nil
	}
	o := outcome{parameters: v.params, attached: v.attached}
	if !r.makes() || refused(v.gw.spec) != nil {
		// What is there stays: a slip in a listener is no reason to cut a namespace off.
		return r.report(ctx, n, v, o)
	}
	s := r.opts.Settings
	if s.Roots = r.opts.Roots(); len(s.Roots) == 0 {
		return errNoRoots
	}
	var again error
	if o.parameters == nil {
		objs, err := Render(&s, v.input)
		if err != nil {
			o.parameters = err
		} else {
			again = r.applyAll(ctx, v.gw.spec, objs, v.children)
		}
	}
	var t taken
	switch {
	case again == nil:
	case apierrors.HasStatusCause(again, corev1.NamespaceTerminatingCause):
		return nil // the Gateway goes with its namespace
	case errors.As(again, &t):
		o.taken = t.what
	case passing(again) && failures < patience:
		return again // what stands goes on, and so does what was said of it
	case apierrors.IsInvalid(again) && len(v.input.Class)+len(v.input.Own) > 0:
		o.parameters = again
	default:
		o.apply = again
	}
	return errors.Join(again, r.report(ctx, n, v, o))
}

// report writes the Gateway's status if it is not so already.
func (r *Reconciler) report(ctx context.Context, n name, v view, o outcome) error {
	if !r.makes() && len(v.children) > 0 {
		o.available = 1 // how it does is for whoever runs it to say
	}
	for _, c := range v.children {
		switch c.key.Kind {
		case "Deployment":
			o.available = c.available
		case "Service":
			o.addresses = slices.Clone(c.addresses)
			for i := range o.addresses {
				if o.addresses[i].Type == "Hostname" {
					o.addresses[i].Value = n.name + "." + n.namespace + ".svc." + r.opts.Settings.Mesh.Domain
				}
			}
		}
	}
	o.made = r.makes()
	st := describe(v.gw.spec, o, v.gw.status)
	if st.settle(r.now(), v.gw.status) {
		return nil
	}
	return r.applyStatus(ctx, gatewayResource, "Gateway", n, st)
}

// applyStatus applies a status as this controller.
func (r *Reconciler) applyStatus(ctx context.Context, gvr schema.GroupVersionResource, kind string, n name, status any) error {
	raw, err := json.Marshal(status)
	if err != nil {
		return err
	}
	var m map[string]any
	if err := json.Unmarshal(raw, &m); err != nil {
		return err
	}
	u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": gvr.GroupVersion().String(), "kind": kind, "status": m}}
	u.SetName(n.name)
	u.SetNamespace(n.namespace)
	opts := metav1.ApplyOptions{FieldManager: r.opts.Settings.ControllerName, Force: true}
	if n.namespace == "" {
		_, err = r.opts.Client.Resource(gvr).ApplyStatus(ctx, n.name, u, opts)
	} else {
		_, err = r.opts.Client.Resource(gvr).Namespace(n.namespace).ApplyStatus(ctx, n.name, u, opts)
	}
	if apierrors.IsNotFound(err) {
		return nil // gone meanwhile
	}
	return err
}

// reconcileClass says of a GatewayClass of ours that it is accepted.
func (r *Reconciler) reconcileClass(ctx context.Context, className string) error {
	r.mu.Lock()
	c := r.classes[className]
	ours, _ := r.ours(className)
	var perr error
	ready := true
	if c != nil && ours && r.makes() {
		_, ready, perr = r.parameters(c.spec.Spec.ParametersRef, "")
	}
	r.mu.Unlock()
	if c == nil || !ours || !ready {
		return nil
	}
	want := is("Accepted", true, "Accepted", "Gateways of this class are waypoints of this controller", c.spec.Metadata.Generation)
	if perr != nil {
		want = is("Accepted", false, "InvalidParameters", perr.Error(), c.spec.Metadata.Generation)
	}
	var have struct {
		Conditions []condition `json:"conditions"`
	}
	if len(c.status) > 0 && json.Unmarshal(c.status, &have) != nil {
		have.Conditions = nil
	}
	conditions := []condition{want}
	since(r.now(), have.Conditions, conditions)
	if within(have.Conditions, conditions) {
		return nil
	}
	return r.applyStatus(ctx, classResource, "GatewayClass", name{"", className}, map[string]any{"conditions": conditions})
}
