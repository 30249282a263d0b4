package kube

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

func TestTrim(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"a pod", `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a","namespace":"b","uid":"u","resourceVersion":"7","generation":3,"managedFields":[{}],"labels":{"app":"x"},
			"annotations":{"ambient.istio.io/redirection":"enabled","other":"long","sidecar.istio.io/status":"{\"long\":1}"},"ownerReferences":[{"kind":"ReplicaSet","name":"r","uid":"u","controller":true}]},
			"spec":{"nodeName":"n","volumes":[{}],"containers":[{"name":"c","image":"i","env":[{}],"ports":[{"name":"web","containerPort":80,"protocol":"TCP"},{"containerPort":81}]},{"name":"d"}]},
			"status":{"phase":"Running","podIP":"10.0.0.1","podIPs":[{"ip":"10.0.0.1"}],"conditions":[{"type":"Initialized","status":"True"},{"type":"Ready","status":"True","lastTransitionTime":"x"}],"containerStatuses":[{}]}}`,
			`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a","namespace":"b","labels":{"app":"x"},"annotations":{"ambient.istio.io/redirection":"enabled","sidecar.istio.io/status":"{}"},"ownerReferences":[{"kind":"ReplicaSet","name":"r","controller":true}]},"spec":{"nodeName":"n","containers":[{"ports":[{"name":"web","containerPort":80}]}]},"status":{"phase":"Running","podIPs":[{"ip":"10.0.0.1"}],"conditions":[{"type":"Ready","status":"True"}]}}`},
		{"a node", `{"apiVersion":"v1","kind":"Node","metadata":{"name":"n","labels":{"topology.kubernetes.io/zone":"z","other":"x"},"annotations":{"a.istio.io/b":"c"}},"status":{"images":[{}]}}`,
			`{"apiVersion":"v1","kind":"Node","metadata":{"name":"n","labels":{"topology.kubernetes.io/zone":"z"}}}`},
		{"a slice", `{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":{"name":"s","namespace":"b","labels":{"kubernetes.io/service-name":"a","x":"y"},"ownerReferences":[{"kind":"Service","name":"a"}]},"addressType":"IPv4","ports":[{"name":"","port":80}],"endpoints":[{"addresses":["10.0.0.1"],"conditions":{"ready":false},"hints":{}}]}`,
			`{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":{"name":"s","namespace":"b","labels":{"kubernetes.io/service-name":"a"}},"addressType":"IPv4","ports":[{"name":"","port":80}],"endpoints":[{"addresses":["10.0.0.1"],"conditions":{"ready":false}}]}`},
		{"a route, whose mistakes stay", `{"apiVersion":"gateway.networking.k8s.io/v1","kind":"HTTPRoute","metadata":{"name":"r","namespace":"b","generation":2,"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"x"}},"spec":{"wrong":1},"more":2,"status":{"parents":[]}}`,
			`{"apiVersion":"gateway.networking.k8s.io/v1","kind":"HTTPRoute","metadata":{"name":"r","namespace":"b","generation":2},"more":2,"spec":{"wrong":1}}`},
		{"an entry, whose status is read", `{"apiVersion":"networking.istio.io/v1","kind":"ServiceEntry","metadata":{"name":"e","namespace":"b"},"spec":{},"status":{"addresses":[{"value":"240.240.0.1"}]}}`,
			`{"apiVersion":"networking.istio.io/v1","kind":"ServiceEntry","metadata":{"name":"e","namespace":"b"},"spec":{},"status":{"addresses":[{"value":"240.240.0.1"}]}}`},
		{"the mesh", `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"istio","namespace":"istio-system"},"data":{"mesh":"a: b","meshNetworks":"x"}}`,
			`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"istio","namespace":"istio-system"},"data":{"mesh":"a: b"}}`},
		{"another ConfigMap", `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"x"},"data":{"a":"b"}}`, ""},
		{"a Secret", `{"apiVersion":"v1","kind":"Secret","metadata":{"name":"x"}}`, ""},
		{"a kind that is not applied", `{"apiVersion":"networking.istio.io/v1","kind":"VirtualService","metadata":{"name":"x"}}`, ""},
	} {
		out, ok, err := Trim([]byte(c.in))
		if err != nil || ok != (c.want != "") {
			t.Errorf("%s: %v %v", c.name, ok, err)
			continue
		}
		var got, want any
		json.Unmarshal(out, &got)
		json.Unmarshal([]byte(c.want), &want)
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n got %s\nwant %s", c.name, out, c.want)
		}
	}
	for _, bad := range []string{"{", `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"},"spec":7}`} {
		if _, _, err := Trim([]byte(bad)); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
}

// What is trimmed decodes to what it decoded to before.
func FuzzTrim(f *testing.F) {
	f.Add([]byte(`{"apiVersion":"v1","kind":"Service","metadata":{"name":"a"},"spec":{"ports":[{"port":80,"targetPort":"web"}]}}`))
	f.Add([]byte(`{"apiVersion":"security.istio.io/v1","kind":"AuthorizationPolicy","metadata":{"name":"a"},"spec":{"action":"DENY","x":1}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		out, ok, err := Trim(raw)
		if err != nil || !ok {
			return
		}
		a, err := Decode(raw, "")
		if err != nil {
			return
		}
		b, err := Decode(out, "")
		if err != nil {
			t.Fatalf("%s: %v", out, err)
		}
		// A key written twice is told of the object as it is written; none is in a cluster.
		if a.Key != b.Key || a.created != b.created || errString(a.Err) != errString(b.Err) && !strings.Contains(errString(a.Err), "twice") {
			t.Errorf("%v (%v) became %v (%v)", a.Key, a.Err, b.Key, b.Err)
		}
	})
}
