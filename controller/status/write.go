package status

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/util/flowcontrol"
	"k8s.io/client-go/util/workqueue"

	"waypoint.dev/waypoint/config/kube"
	"waypoint.dev/waypoint/controller/watch"
)

// attempts is how often a write that others cross is merged again before it waits
// in the queue.
const attempts = 5

// write is one writer.
func (e *Engine) write(ctx context.Context, queue workqueue.TypedRateLimitingInterface[kube.Key], limit flowcontrol.RateLimiter) {
	for {
		k, quit := queue.Get()
		if quit {
			return
		}
		err := e.settle(ctx, k, limit)
		queue.Done(k)
		switch {
		case err == nil:
			queue.Forget(k)
		case ctx.Err() == nil:
			e.failures.Add(1)
			e.log.Warn("a status is written again", "object", k.String(), "error", err)
			queue.AddRateLimited(k)
		}
	}
}

// merged returns the status to apply. same says that it stands already.
func (e *Engine) merged(k kube.Key, h *held, d *desired) (status map[string]any, same bool) {
	if d == nil {
		d = &desired{}
	}
	switch k.Group {
	case groupSecurity:
		if len(d.istio) == 0 && !slices.Contains(h.by, e.opts.ControllerName) {
			return nil, true // what others said is not ours to take away
		}
		cs, same := mergeIstio(h.status, d.istio, e.now())
		if len(cs) == 0 {
			return map[string]any{}, same
		}
		return map[string]any{"conditions": cs}, same
	case groupGateway:
		l, same := parents.merge(h.status, e.opts.ControllerName, d.entries, e.now())
		return map[string]any{parents.field: l}, same
	default:
		l, same := ancestors.merge(h.status, e.opts.ControllerName, d.entries, e.now())
		return map[string]any{ancestors.field: l}, same
	}
}

// settle writes the status of one object if it differs.
func (e *Engine) settle(ctx context.Context, k kube.Key, limit flowcontrol.RateLimiter) error {
	kind, ok := e.opts.Resource(k.Group, k.Kind)
	if !ok {
		return nil // its definition is gone
	}
	client := e.opts.Client.Resource(kind.GVR()).Namespace(k.Namespace)
	live := k.Group == groupSecurity // only the live object tells who wrote its status
	for range attempts {
		e.mu.Lock()
		h, d := e.held[k], e.wanted[k]
		e.mu.Unlock()
		if h == nil || h.foreign {
			return nil
		}
		was := h
		if live {
			u, err := client.Get(ctx, k.Name, metav1.GetOptions{})
			if apierrors.IsNotFound(err) {
				return nil
			}
			if err != nil {
				return err
			}
			h = stands(u)
			h.foreign = k.Group == groupSecurity && e.foreign(u, h)
			e.keep(k, was, h)
			was = h
			if h.foreign {
				return nil
			}
		}
		status, same := e.merged(k, h, d)
		if same {
			return nil
		}
		if err := limit.Wait(ctx); err != nil {
			return err
		}
		u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": kind.APIVersion(), "kind": kind.Kind, "status": status}}
		u.SetNamespace(k.Namespace)
		u.SetName(k.Name)
		u.SetResourceVersion(h.version)
		res, err := client.ApplyStatus(ctx, k.Name, u, metav1.ApplyOptions{FieldManager: e.opts.ControllerName, Force: true})
		switch {
		case err == nil:
			e.writes.Add(1)
			e.keep(k, was, stands(res))
			return nil
		case apierrors.IsNotFound(err):
			return nil
		case !apierrors.IsConflict(err):
			return err
		}
		e.conflicts.Add(1)
		live = true
	}
	return fmt.Errorf("others wrote it %d times meanwhile", attempts)
}

// keep remembers how an object stands, until the watch says so too. If the watch has
// said something since it was known to stand like was, which may be newer, that counts.
func (e *Engine) keep(k kube.Key, was, h *held) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.held[k] == was {
		e.held[k] = h
	}
}

func stands(u *unstructured.Unstructured) *held {
	status, _ := u.Object["status"].(map[string]any)
	return &held{version: u.GetResourceVersion(), status: status, by: watch.Writers(u)}
}

// foreign reports whether another controller, istiod for one, keeps the condition
// that Istio's policies have for waypoints. Both would say the same, in other words,
// and take turns for ever. One that lags behind the object's generation is dead.
func (e *Engine) foreign(u *unstructured.Unstructured, h *held) bool {
	cs, _ := h.status["conditions"].([]any)
	found := false
	for _, c := range cs {
		m, ok := c.(map[string]any)
		if ok && m["type"] == istioCondition {
			g := number(m["observedGeneration"])
			found = g == 0 || g >= u.GetGeneration()
		}
	}
	if !found {
		return false
	}
	for _, f := range u.GetManagedFields() {
		if f.Manager == e.opts.ControllerName || f.FieldsV1 == nil {
			continue
		}
		var fields map[string]json.RawMessage
		if json.Unmarshal(f.FieldsV1.GetRawBytes(), &fields) == nil && strings.Contains(string(fields["f:status"]), `"f:conditions"`) {
			return true
		}
	}
	return false
}
