package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
)

// manager owns the fields of what a lab applies.
const manager = "lab"

// applier finds the resource of an object's kind.
type applier struct {
	dynamic dynamic.Interface
	mapper  *restmapper.DeferredDiscoveryRESTMapper
}

func newApplier(cfg *rest.Config, dyn dynamic.Interface) (*applier, error) {
	dc, err := discovery.NewDiscoveryClientForConfig(cfg)
	if err != nil {
		return nil, err
	}
	return &applier{dynamic: dyn, mapper: restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(dc))}, nil
}

func (a *applier) resource(o *unstructured.Unstructured) (dynamic.ResourceInterface, error) {
	gvk := o.GroupVersionKind()
	m, err := a.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	if meta.IsNoMatchError(err) {
		a.mapper.Reset() // a CRD may have come since
		m, err = a.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	}
	if err != nil {
		return nil, err
	}
	r := a.dynamic.Resource(m.Resource)
	if m.Scope.Name() == meta.RESTScopeNameNamespace {
		ns := o.GetNamespace()
		if ns == "" {
			ns = "default"
		}
		return r.Namespace(ns), nil
	}
	return r, nil
}

// Decode reads the objects of YAML or JSON manifests.
func Decode(manifests string) ([]*unstructured.Unstructured, error) {
	var out []*unstructured.Unstructured
	d := yaml.NewYAMLOrJSONDecoder(strings.NewReader(manifests), 4096)
	for {
		o := &unstructured.Unstructured{}
		if err := d.Decode(&o.Object); errors.Is(err, io.EOF) {
			return out, nil
		} else if err != nil {
			return nil, err
		}
		if len(o.Object) > 0 {
			out = append(out, o)
		}
	}
}

// Apply creates or updates the objects of manifests by server-side apply, in order, and
// returns them as the API server has them.
func (l *Lab) Apply(ctx context.Context, manifests string) ([]*unstructured.Unstructured, error) {
	list, err := Decode(manifests)
	if err != nil {
		return nil, fmt.Errorf("lab: apply: %w", err)
	}
	for i, o := range list {
		if list[i], err = l.apply(ctx, o); err != nil {
			return nil, fmt.Errorf("lab: apply %s %s/%s: %w", o.GetKind(), o.GetNamespace(), o.GetName(), err)
		}
	}
	return list, nil
}

func (l *Lab) apply(ctx context.Context, o *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	r, err := l.applier.resource(o)
	if err != nil {
		return nil, err
	}
	data, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	force := true
	return r.Patch(ctx, o.GetName(), types.ApplyPatchType, data, metav1.PatchOptions{FieldManager: manager, Force: &force})
}

// Delete removes the objects of manifests, last first; objects that are not there are
// passed over.
func (l *Lab) Delete(ctx context.Context, manifests string) error {
	list, err := Decode(manifests)
	if err != nil {
		return fmt.Errorf("lab: delete: %w", err)
	}
	slices.Reverse(list)
	for _, o := range list {
		r, err := l.applier.resource(o)
		if err != nil {
			return fmt.Errorf("lab: delete: %w", err)
		}
		if err := r.Delete(ctx, o.GetName(), metav1.DeleteOptions{}); err != nil && !isNotFound(err) {
			return fmt.Errorf("lab: delete %s %s/%s: %w", o.GetKind(), o.GetNamespace(), o.GetName(), err)
		}
	}
	return nil
}

// Get reads an object of which kind, namespace and name are given.
func (l *Lab) Get(ctx context.Context, gvk schema.GroupVersionKind, namespace, name string) (*unstructured.Unstructured, error) {
	o := &unstructured.Unstructured{}
	o.SetGroupVersionKind(gvk)
	o.SetNamespace(namespace)
	r, err := l.applier.resource(o)
	if err != nil {
		return nil, err
	}
	return r.Get(ctx, name, metav1.GetOptions{})
}

// Wait asks until the answer is yes, or ctx ends; then it returns the last error, or that
// the condition did not come true.
func Wait(ctx context.Context, what string, ask func() (bool, error)) error {
	for {
		ok, err := ask()
		if ok && err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			if err == nil {
				err = errors.New("it is not so")
			}
			return fmt.Errorf("lab: wait for %s: %w", what, err)
		case <-time.After(pollEvery):
		}
	}
}

const pollEvery = 25 * time.Millisecond

// applyCRDs applies the CustomResourceDefinitions of files and waits until they serve.
func (l *Lab) applyCRDs(ctx context.Context, paths []string) error {
	var crds []*unstructured.Unstructured
	for _, p := range paths {
		files := []string{p}
		if st, err := os.Stat(p); err != nil {
			return err
		} else if st.IsDir() {
			if files, err = filepath.Glob(filepath.Join(p, "*.yaml")); err != nil {
				return err
			}
		}
		for _, f := range files {
			data, err := os.ReadFile(f)
			if err != nil {
				return err
			}
			list, err := Decode(string(bytes.TrimPrefix(data, []byte("---"))))
			if err != nil {
				return fmt.Errorf("%s: %w", f, err)
			}
			for _, o := range list {
				// A folder may hold more: a kustomization, admission policies.
				switch o.GetKind() {
				case "CustomResourceDefinition":
					crds = append(crds, o)
				case "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding":
					if _, err := l.apply(ctx, o); err != nil {
						return fmt.Errorf("%s: %w", o.GetName(), err)
					}
				}
			}
		}
	}
	var wg sync.WaitGroup
	errs := make([]error, len(crds))
	for i, o := range crds {
		wg.Go(func() {
			if _, err := l.apply(ctx, o); err != nil {
				errs[i] = fmt.Errorf("CRD %s: %w", o.GetName(), err)
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for _, o := range crds {
		if err := Wait(ctx, "CRD "+o.GetName(), func() (bool, error) {
			got, err := l.Get(ctx, o.GroupVersionKind(), "", o.GetName())
			if err != nil {
				return false, err
			}
			return ConditionTrue(got.Object, "Established"), nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// ConditionTrue reports whether status.conditions has the type with status True.
func ConditionTrue(o map[string]any, typ string) bool {
	list, _, _ := unstructured.NestedSlice(o, "status", "conditions")
	return slices.ContainsFunc(list, func(c any) bool {
		m, ok := c.(map[string]any)
		return ok && m["type"] == typ && m["status"] == "True"
	})
}
