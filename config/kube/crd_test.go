package kube

import (
	"reflect"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// schema is the part of a structural schema that is compared.
type schema struct {
	Properties map[string]schema `json:"properties"`
	Items      *schema           `json:"items"`
	Type       string            `json:"type"`
}

// The schema of WaypointPolicy has the fields that are decoded, and no others.
func TestSchema(t *testing.T) {
	var crd struct {
		Spec struct {
			Versions []struct {
				Schema struct {
					OpenAPIV3Schema schema `json:"openAPIV3Schema"`
				} `json:"schema"`
			} `json:"versions"`
		} `json:"spec"`
	}
	if err := yaml.Unmarshal([]byte(manifest(t, "../../deploy/crds/waypointpolicies.yaml")), &crd); err != nil {
		t.Fatal(err)
	}
	s := crd.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties["spec"]
	compareSchema(t, "spec", s, reflect.TypeFor[WaypointPolicy]())
}

func compareSchema(t *testing.T, path string, s schema, typ reflect.Type) {
	for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice {
		if typ.Kind() == reflect.Slice {
			if s.Items == nil {
				t.Fatalf("%s is a list", path)
			}
			s = *s.Items
		}
		typ = typ.Elem()
	}
	if typ.Kind() != reflect.Struct {
		if s.Type == "" || s.Type == "object" || s.Type == "array" {
			t.Errorf("%s has type %q", path, s.Type)
		}
		return
	}
	seen := map[string]bool{}
	for i := range typ.NumField() {
		name, _, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
		if typ == reflect.TypeFor[TargetRef]() && (name == "namespace" || name == "sectionName") {
			continue // decoded to be refused with a reason
		}
		f, ok := s.Properties[name]
		if !ok {
			t.Errorf("%s.%s is not in the schema", path, name)
			continue
		}
		seen[name] = true
		compareSchema(t, path+"."+name, f, typ.Field(i).Type)
	}
	for name := range s.Properties {
		if !seen[name] {
			t.Errorf("%s.%s is not decoded", path, name)
		}
	}
}

// The example says what its comments say.
func TestExample(t *testing.T) {
	m := NewBuilder(Options{}).Build(store(t, manifest(t, "../../examples/shop/mesh.yaml"), manifest(t, "../../examples/waypointpolicy/policy.yaml")))
	for _, p := range m.Problems {
		if p.Kind == "WaypointPolicy" {
			t.Error(ProblemLine(p))
		}
	}
	found := false
	for key, b := range m.Backends {
		if strings.HasPrefix(key, "cart.shop.") {
			found = true
			if x := b.Settings.Breaker; x == nil || x.MinRequests != 20 || x.HalfOpenRequests != 3 {
				t.Errorf("%s: breaker %+v", key, x)
			}
		} else if b.Settings.Breaker != nil {
			t.Errorf("%s has a breaker", key)
		}
	}
	if !found {
		t.Fatal("no backend of the cart")
	}
	for _, d := range m.Destinations {
		if !d.Settings.XFCC || !d.Settings.XFF {
			t.Errorf("%s: %+v", d.Key, d.Settings)
		}
	}
}
