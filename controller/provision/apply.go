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
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"waypoint.dev/waypoint/config/kube"
	"waypoint.dev/waypoint/controller/watch"
)

// taken is the error of an object that belongs to someone else.
type taken struct{ what string }

func (t taken) Error() string { return t.what + " exists and belongs to someone else" }

// waiting is the error of an object that is in the way for a moment.
type waiting struct{ what string }

func (w waiting) Error() string {
	return w.what + " still belongs to a deleted Gateway of the same name; waiting for it to go"
}

// passing reports whether an error says nothing of the objects: the API server was
// away or busy, or somebody wrote at the same time.
func passing(err error) bool {
	var w waiting
	if errors.As(err, &w) {
		return false
	}
	if swapped(err) {
		return true
	}
	switch apierrors.ReasonForError(err) {
	case metav1.StatusReasonInvalid, metav1.StatusReasonForbidden, metav1.StatusReasonBadRequest, metav1.StatusReasonNotFound,
		metav1.StatusReasonMethodNotAllowed, metav1.StatusReasonRequestEntityTooLarge:
		return false
	}
	return true
}

// swapped reports whether an object is another one than that which an apply named by its
// uid: to the API server the apply then changes the uid, which is invalid.
func swapped(err error) bool {
	cause, ok := apierrors.StatusCause(err, metav1.CauseTypeFieldValueInvalid)
	return ok && cause.Field == "metadata.uid"
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
	uid := types.UID("")
	if owned >= 0 {
		uid = children[owned].uid
	} else if uid, err = r.mayTake(ctx, gw, client, key); err != nil {
		return err
	}
	if key.Kind == "Deployment" && uid != "" {
		if err := r.yieldReplicas(ctx, client, u); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
	}
	// The API server refuses the apply if it is another object by now.
	u.SetUID(uid)
	res, err := client.Apply(ctx, key.Name, u, r.force(""))
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

// force are the options of an apply as this controller, or as a part of it.
func (r *Reconciler) force(part string) metav1.ApplyOptions {
	return metav1.ApplyOptions{FieldManager: r.opts.Settings.ControllerName + part, Force: true}
}

// mayTake looks whether the name is free, or the object is this Gateway's already,
// which it then returns the uid of.
func (r *Reconciler) mayTake(ctx context.Context, gw *Gateway, client dynamic.ResourceInterface, key kube.Key) (types.UID, error) {
	u, err := client.Get(ctx, key.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", key, err)
	}
	labels, owners := u.GetLabels(), u.GetOwnerReferences()
	ours := labels[LabelManagedBy] == ManagedBy
	for _, o := range owners {
		switch {
		case o.UID == gw.Metadata.UID:
			return u.GetUID(), nil
		case o.Kind == "Gateway" && o.Name == gw.Metadata.Name && ours:
			return "", waiting{key.String()}
		}
	}
	// What has no owner is this Gateway's if it was made by this controller, as with
	// objects that were left as orphans or come out of a backup. Whoever made an account
	// for the waypoint, with rights of its own, says so by the label.
	if len(owners) == 0 && labels[labelGateway] == gw.Metadata.Name && (ours || key.Kind == "ServiceAccount") {
		return u.GetUID(), nil
	}
	return "", taken{key.String()}
}

// replicasManager owns a Deployment's replicas between us and its autoscaler.
const replicasManager = "/replicas"

// yieldReplicas prepares an apply that leaves the replicas to an autoscaler. Where
// nobody but us has set them the API server would take the field away with our claim
// to it, and a waypoint of many replicas would be one of a single replica, the API's
// default, until its autoscaler looks. So they are given to another manager as they
// are (Kubernetes, Server-Side Apply: transferring ownership).
func (r *Reconciler) yieldReplicas(ctx context.Context, client dynamic.ResourceInterface, u *unstructured.Unstructured) error {
	if _, set, _ := unstructured.NestedFieldNoCopy(u.Object, "spec", "replicas"); set {
		return nil
	}
	live, err := client.Get(ctx, u.GetName(), metav1.GetOptions{})
	if err != nil {
		return err
	}
	n, set, err := unstructured.NestedInt64(live.Object, "spec", "replicas")
	if err != nil || !set || !ownsReplicas(live, r.opts.Settings.ControllerName) {
		return err
	}
	hold := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": u.GetAPIVersion(), "kind": u.GetKind(), "spec": map[string]any{"replicas": n},
	}}
	hold.SetNamespace(u.GetNamespace())
	hold.SetName(u.GetName())
	hold.SetResourceVersion(live.GetResourceVersion()) // n is to be what it is
	_, err = client.Apply(ctx, u.GetName(), hold, r.force(replicasManager))
	return err
}

// ownsReplicas reports whether a manager applied a Deployment's replicas.
func ownsReplicas(d *unstructured.Unstructured, manager string) bool {
	for _, f := range d.GetManagedFields() {
		if f.Manager != manager || f.Operation != metav1.ManagedFieldsOperationApply || f.Subresource != "" || f.FieldsV1 == nil {
			continue
		}
		var fields struct {
			Spec map[string]json.RawMessage `json:"f:spec"`
		}
		if json.Unmarshal(f.FieldsV1.GetRawBytes(), &fields) == nil && fields.Spec["f:replicas"] != nil {
			return true
		}
	}
	return false
}

// remove deletes owned objects.
func (r *Reconciler) remove(ctx context.Context, children []*child, which func(*child) bool) error {
	var errs []error
	for _, c := range children {
		if !which(c) {
			continue
		}
		client := r.opts.Client.Resource(c.kind.GVR()).Namespace(c.key.Namespace)
		err := client.Delete(ctx, c.key.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &c.uid}})
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
		if k.Namespace == n.namespace && (k.Name == n.name || k.Name == trustName(n.name)) {
			delete(r.applied, k)
		}
	}
}
