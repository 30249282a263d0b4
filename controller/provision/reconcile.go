package provision

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"waypoint.dev/waypoint/config/kube"
	"waypoint.dev/waypoint/controller/watch"
)

var (
	gatewayResource = schema.GroupVersionResource{Group: gatewayGroup, Version: "v1", Resource: "gateways"}
	classResource   = schema.GroupVersionResource{Group: gatewayGroup, Version: "v1", Resource: "gatewayclasses"}
)

// taken is the error of an object that belongs to someone else.
type taken struct{ what string }

func (t taken) Error() string { return t.what + " exists and belongs to someone else" }

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

// reconcile brings one Gateway's objects and status to what they should be.
func (r *Reconciler) reconcile(ctx context.Context, n name) error {
	v, act, foreign := r.look(n)
	if !act {
		if v.gw == nil {
			r.forget(n)
		}
		return nil
	}
	if foreign {
		return r.remove(ctx, v.children, func(*child) bool { return true })
	}
	if !v.gw.spec.Metadata.DeletionTimestamp.IsZero() {
		return nil
	}
	o := outcome{parameters: v.params, attached: v.attached}
	if !slices.ContainsFunc(checkListeners(v.gw.spec), func(l listener) bool { return l.err == "" }) || len(v.gw.spec.Spec.Addresses) > 0 {
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
		} else if again = r.applyAll(ctx, v.gw.spec, objs, v.children); again != nil {
			var t taken
			if errors.As(again, &t) {
				o.taken = t.what
			} else {
				o.apply = again
			}
		}
	}
	return errors.Join(again, r.report(ctx, n, v, o))
}

// applyAll applies what is wanted and removes what is not any more.
func (r *Reconciler) applyAll(ctx context.Context, gw *Gateway, objs []*unstructured.Unstructured, children []*child) error {
	wanted := map[kube.Key]bool{}
	for _, u := range objs {
		k := childKind(u.GetKind())
		key := kube.Key{Group: k.Group, Kind: k.Kind, Namespace: u.GetNamespace(), Name: u.GetName()}
		wanted[key] = true
		if err := r.apply(ctx, gw, k, key, u, children); err != nil {
			return err
		}
	}
	return r.remove(ctx, children, func(c *child) bool { return !wanted[c.key] })
}

var seed = maphash.MakeSeed()

// apply makes one object as rendered, unless it is so already.
func (r *Reconciler) apply(ctx context.Context, gw *Gateway, k watch.Kind, key kube.Key, u *unstructured.Unstructured, children []*child) error {
	raw, err := json.Marshal(u.Object)
	if err != nil {
		return err
	}
	sum := maphash.Bytes(seed, raw)
	owned := slices.IndexFunc(children, func(c *child) bool { return c.key == key })
	if last, ok := r.applied[key]; ok && owned >= 0 && last == (applied{sum, children[owned].sum}) {
		return nil
	}
	client := r.opts.Client.Resource(k.GVR()).Namespace(key.Namespace)
	if owned < 0 {
		if err := r.mayTake(ctx, gw, k, key); err != nil {
			return err
		}
	}
	res, err := client.Apply(ctx, key.Name, u, metav1.ApplyOptions{FieldManager: r.opts.Settings.ControllerName, Force: true})
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	if owned < 0 {
		r.log.Info("made", "object", key.String(), "gateway", gw.Metadata.Name)
	}
	it, err := watch.NewItem(k, res)
	if err != nil {
		return err
	}
	r.applied[key] = applied{sum, it.Sum()}
	return nil
}

// mayTake looks whether the name is free, or the object is this Gateway's already.
func (r *Reconciler) mayTake(ctx context.Context, gw *Gateway, k watch.Kind, key kube.Key) error {
	u, err := r.opts.Client.Resource(k.GVR()).Namespace(key.Namespace).Get(ctx, key.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	for _, o := range u.GetOwnerReferences() {
		switch {
		case o.UID == gw.Metadata.UID:
			return nil
		case o.Kind == "Gateway" && o.Name == gw.Metadata.Name && u.GetLabels()[LabelManagedBy] == ManagedBy:
			return fmt.Errorf("%s still belongs to a deleted Gateway of the same name; waiting for it to go", key)
		}
	}
	// Whoever made an account for the waypoint, with rights of its own, says so by
	// the label.
	if key.Kind == "ServiceAccount" && len(u.GetOwnerReferences()) == 0 && u.GetLabels()[labelGateway] == gw.Metadata.Name {
		return nil
	}
	return taken{key.String()}
}

// remove deletes owned objects.
func (r *Reconciler) remove(ctx context.Context, children []*child, which func(*child) bool) error {
	var errs []error
	for _, c := range children {
		if !which(c) {
			continue
		}
		err := r.opts.Client.Resource(c.kind.GVR()).Namespace(c.key.Namespace).Delete(ctx, c.key.Name, metav1.DeleteOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			errs = append(errs, fmt.Errorf("%s: %w", c.key, err))
			continue
		}
		delete(r.applied, c.key)
		r.log.Info("removed", "object", c.key.String(), "gateway", c.gateway)
	}
	return errors.Join(errs...)
}

// forget drops what is remembered of a Gateway that is gone.
func (r *Reconciler) forget(n name) {
	for k := range r.applied {
		if k.Namespace == n.namespace && (k.Name == n.name || k.Name == (&renderer{gw: &Gateway{Metadata: metav1.ObjectMeta{Name: n.name}}}).trustName()) {
			delete(r.applied, k)
		}
	}
}

// report writes the Gateway's status if it is not so already.
func (r *Reconciler) report(ctx context.Context, n name, v view, o outcome) error {
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
	if c != nil && ours {
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
