package provision

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"

	"waypoint.dev/waypoint/config/kube"
	"waypoint.dev/waypoint/controller/watch"
)

// parameters is one ConfigMap that a class or a Gateway names. It alone is watched,
// not all ConfigMaps there are.
type parameters struct {
	stop   context.CancelFunc
	listed bool              // guarded by Reconciler.mu
	found  bool              // guarded by Reconciler.mu
	data   map[string]string // guarded by Reconciler.mu
}

// referenced returns which ConfigMap a reference means. Parameters of a Gateway
// stand in its own namespace.
func referenced(ref *ParametersRef, namespace string) (name, error) {
	if ref.Group != "" || ref.Kind != "ConfigMap" {
		return name{}, fmt.Errorf("parametersRef: %s/%s cannot hold parameters, a ConfigMap can", ref.Group, ref.Kind)
	}
	if namespace == "" {
		if ref.Namespace == "" {
			return name{}, fmt.Errorf("parametersRef: a GatewayClass has to name the namespace of the ConfigMap")
		}
		namespace = ref.Namespace
	}
	return name{namespace, ref.Name}, nil
}

// wanted lists the ConfigMaps that classes and Gateways of ours name.
func (r *Reconciler) wantedParameters() map[name]bool {
	out := map[name]bool{}
	add := func(ref *ParametersRef, namespace string) {
		if ref == nil {
			return
		}
		if n, err := referenced(ref, namespace); err == nil {
			out[n] = true
		}
	}
	for _, c := range r.classes {
		if c.spec.Spec.ControllerName == r.opts.Settings.ControllerName {
			add(c.spec.Spec.ParametersRef, "")
		}
	}
	for n, g := range r.gateways {
		if ours, _ := r.ours(g.spec.Spec.GatewayClassName); ours && g.spec.Spec.Infrastructure != nil {
			add(g.spec.Spec.Infrastructure.ParametersRef, n.namespace)
		}
	}
	return out
}

// follow watches the ConfigMaps that are named, and no others.
func (r *Reconciler) follow(ctx context.Context, wg *sync.WaitGroup) {
	r.mu.Lock()
	defer r.mu.Unlock()
	want := r.wantedParameters()
	for n, p := range r.params {
		if !want[n] {
			p.stop()
			delete(r.params, n)
		}
	}
	for n := range want {
		if r.params[n] != nil {
			continue
		}
		ctx, stop := context.WithCancel(ctx)
		p := &parameters{stop: stop}
		r.params[n] = p
		sel := watch.Named(n.name)
		sel.Namespace = n.namespace
		wg.Go(func() {
			defer stop()
			watch.Follow(ctx, r.opts.Client, childKind("ConfigMap"), sel, &parameterSink{r, n, p}, r.log)
		})
	}
}

type parameterSink struct {
	r *Reconciler
	n name
	p *parameters
}

func (s *parameterSink) set(it *watch.Item) {
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	s.p.listed, s.p.found, s.p.data = true, it != nil, nil
	if it != nil {
		var o struct {
			Data map[string]string `json:"data"`
		}
		if json.Unmarshal(it.JSON, &o) == nil {
			s.p.data = o.Data
		}
	}
	for c, x := range s.r.classes {
		if ref := x.spec.Spec.ParametersRef; ref != nil && ref.Name == s.n.name && ref.Namespace == s.n.namespace {
			s.r.wakeClass(c)
		}
	}
	for n, g := range s.r.gateways {
		if i := g.spec.Spec.Infrastructure; i != nil && i.ParametersRef != nil && n.namespace == s.n.namespace && i.ParametersRef.Name == s.n.name {
			s.r.wake(n)
		}
	}
}

func (s *parameterSink) Put(it *watch.Item, content bool) {
	if content && it.Key.Name == s.n.name {
		s.set(it)
	}
}
func (s *parameterSink) Delete(k kube.Key) {
	if k.Name == s.n.name {
		s.set(nil)
	}
}
func (s *parameterSink) Synced() {}

func (s *parameterSink) Replace(_, _ string, items []*watch.Item) {
	for _, it := range items {
		if it.Key.Name == s.n.name && it.Key.Namespace == s.n.namespace {
			s.set(it)
			return
		}
	}
	s.set(nil)
}

// parameters returns what a reference holds. ready is false while that is not known
// yet.
func (r *Reconciler) parameters(ref *ParametersRef, namespace string) (data map[string]string, ready bool, err error) {
	if ref == nil {
		return nil, true, nil
	}
	n, err := referenced(ref, namespace)
	if err != nil {
		return nil, true, err
	}
	p := r.params[n]
	switch {
	case p == nil || !p.listed:
		return nil, false, nil
	case !p.found:
		return nil, true, fmt.Errorf("parametersRef: ConfigMap %s/%s does not exist", n.namespace, n.name)
	}
	if err := checkParameters(p.data); err != nil {
		return nil, true, fmt.Errorf("ConfigMap %s/%s: %w", n.namespace, n.name, err)
	}
	return p.data, true, nil
}
