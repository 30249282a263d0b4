package envoy

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Object is a JSON object of an Envoy or Istio resource.
type Object = map[string]any

// Resources are those of one waypoint as istiod sends them.
type Resources struct {
	Listeners, Clusters, Endpoints []Object
	Workloads                      []Object // istio.workload.Address as the Any's JSON
}

// podNet is where istiod's samples have their pods, and loopNet where the lab has
// them: every address of 127/8 is this machine.
const (
	podNet  = "10.244."
	loopNet = "127.8."
)

// Load reads recorded resources and moves their pods to the loopback network.
func Load(dir string) (*Resources, error) {
	r := &Resources{}
	for name, into := range map[string]*[]Object{
		"listeners.json": &r.Listeners, "clusters.json": &r.Clusters, "endpoints.json": &r.Endpoints, "workloads.json": &r.Workloads,
	} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			if os.IsNotExist(err) && name == "workloads.json" {
				continue
			}
			return nil, err
		}
		if err := json.Unmarshal([]byte(strings.ReplaceAll(string(b), `"`+podNet, `"`+loopNet)), into); err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Join(dir, name), err)
		}
	}
	for i, w := range r.Workloads {
		if res, ok := w["resource"].(Object); ok {
			w = res
			r.Workloads[i] = res
		}
		if wl, ok := w["workload"].(Object); ok {
			moveAddresses(wl)
		}
	}
	return r, nil
}

// moveAddresses rewrites the raw addresses of a workload.
func moveAddresses(w Object) {
	list, _ := w["addresses"].([]any)
	for i, a := range list {
		b, err := base64.StdEncoding.DecodeString(fmt.Sprint(a))
		if err == nil && len(b) == 4 && b[0] == 10 && b[1] == 244 {
			b[0], b[1] = 127, 8
			list[i] = base64.StdEncoding.EncodeToString(b)
		}
	}
}

// walk calls f for v and everything in it, parents first.
func walk(v any, f func(Object)) {
	switch v := v.(type) {
	case Object:
		f(v)
		for _, e := range v {
			walk(e, f)
		}
	case []any:
		for _, e := range v {
			walk(e, f)
		}
	}
}

// clone is a deep copy.
func clone[T any](v T) T {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // v came from JSON
	}
	var out T
	if err := json.Unmarshal(b, &out); err != nil {
		panic(err)
	}
	return out
}

// get follows keys through objects and numbers through lists; nil if there is nothing.
func get(v any, keys ...any) any {
	for _, k := range keys {
		switch k := k.(type) {
		case string:
			o, _ := v.(Object)
			v = o[k]
		case int:
			l, _ := v.([]any)
			if k >= len(l) {
				return nil
			}
			v = l[k]
		}
	}
	return v
}

func str(v any) string { s, _ := v.(string); return s }

func list(v any) []any { l, _ := v.([]any); return l }

// mustJSON writes what consists of maps, lists, strings and numbers.
func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}
