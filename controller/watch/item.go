package watch

import (
	"encoding/json"
	"fmt"
	"hash/maphash"
	"unique"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"waypoint.dev/waypoint/config/kube"
)

// Item is one object as sinks get it.
type Item struct {
	Key        kube.Key
	UID        string
	Version    string // resourceVersion
	Generation int64

	// JSON is what the model reads of the object. The status is not in it, but for
	// the addresses of Gateways and ServiceEntries, which are configuration.
	JSON []byte
	// Status is the whole status of a kind that has one to write; nil if it is empty.
	Status json.RawMessage
	// Writers are the field managers of that status; nil for core kinds.
	Writers []string

	sum uint64 // of JSON
}

// GetObjectMeta lets client-go's stores compute keys of items.
func (it *Item) GetObjectMeta() metav1.Object {
	return &metav1.ObjectMeta{Namespace: it.Key.Namespace, Name: it.Key.Name, ResourceVersion: it.Version}
}

var seed = maphash.MakeSeed()

// Sum tells items of different content apart within this process.
func (it *Item) Sum() uint64 { return it.sum }

func (it *Item) seal() *Item {
	it.sum = maphash.Bytes(seed, it.JSON)
	return it
}

// lastApplied is kubectl's copy of the manifest, which doubles an object.
const lastApplied = "kubectl.kubernetes.io/last-applied-configuration"

// Writers returns the field managers of an object's status.
func Writers(u *unstructured.Unstructured) (out []string) {
	meta, _ := u.Object["metadata"].(map[string]any)
	managed, _ := meta["managedFields"].([]any)
	for _, x := range managed {
		m, _ := x.(map[string]any)
		if name, ok := m["manager"].(string); ok && m["subresource"] == "status" {
			// A few names are those of all objects there are.
			out = append(out, unique.Make(name).Value())
		}
	}
	return out
}

// custom makes the item of an object that the dynamic client read. It takes u over.
func custom(k Kind, u *unstructured.Unstructured) (*Item, error) {
	it := &Item{
		Key:        kube.Key{Group: k.Group, Kind: k.Kind, Namespace: u.GetNamespace(), Name: u.GetName()},
		UID:        string(u.GetUID()),
		Version:    u.GetResourceVersion(),
		Generation: u.GetGeneration(),
	}
	it.Writers = Writers(u)
	if meta, ok := u.Object["metadata"].(map[string]any); ok {
		delete(meta, "managedFields")
		delete(meta, "resourceVersion")
		delete(meta, "selfLink")
		if a, ok := meta["annotations"].(map[string]any); ok {
			delete(a, lastApplied)
			if len(a) == 0 {
				delete(meta, "annotations")
			}
		}
	}
	if status, ok := u.Object["status"].(map[string]any); ok {
		if len(status) > 0 {
			b, err := json.Marshal(status)
			if err != nil {
				return nil, fmt.Errorf("%s: status: %w", it.Key, err)
			}
			it.Status = b
		}
		delete(u.Object, "status")
		if addresses, ok := status["addresses"]; ok && (k.Kind == "Gateway" || k.Kind == "ServiceEntry") {
			u.Object["status"] = map[string]any{"addresses": addresses}
		}
	}
	u.Object["apiVersion"], u.Object["kind"] = k.APIVersion(), k.Kind
	b, err := json.Marshal(u.Object)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", it.Key, err)
	}
	it.JSON = b
	return it.seal(), nil
}
