package kube

import (
	"fmt"
	"strings"
	"testing"
)

// What a condition names is all there is, up to a bound that a message can hold.
func TestConditionsNameEverything(t *testing.T) {
	var refs strings.Builder
	for i := range 3 {
		fmt.Fprintf(&refs, "  - matches: [{path: {value: /r%d}}]\n    backendRefs:\n", i)
		for j := range 8 {
			fmt.Fprintf(&refs, "    - {name: nobody-%d-%d, port: 80}\n", i, j)
		}
	}
	refs.WriteString(`  - matches: [{path: {value: /share}}]
    backendRefs: [{name: cart, port: 80, filters: [{type: ExtensionRef, extensionRef: {group: g, kind: k, name: n}}]}]
`)
	b := NewBuilder(Options{})
	b.Build(store(t, manifest(t, "testdata/base.yaml"), `apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: many, namespace: shop}
spec:
  parentRefs: [{group: "", kind: Service, name: cart, port: 80}]
  rules:
`+refs.String()))
	got := map[string]Condition{}
	for _, c := range b.Statuses().Routes[0].Parents[0].Conditions {
		got[c.Type] = c
	}
	resolved := got["ResolvedRefs"]
	if resolved.Status || resolved.Reason != "BackendNotFound" || strings.Count(resolved.Message, "does not exist") != maxListed || !strings.HasSuffix(resolved.Message, "; and 8 more") {
		t.Errorf("%+v", resolved)
	}
	for _, where := range []string{"spec.rules[0].backendRefs[0]: Service shop/nobody-0-0 does not exist; ", "spec.rules[1].backendRefs[7]: Service shop/nobody-1-7 does not exist"} {
		if !strings.Contains(resolved.Message, where) {
			t.Errorf("%s is not in %s", where, resolved.Message)
		}
	}
	// A backend whose filter is unknown fails by itself: the rules can be applied.
	if !got["Accepted"].Status || got["PartiallyInvalid"].Message != `Backends whose share answers 500: spec.rules[3].backendRefs[0].filters[0]: filter type "ExtensionRef" is not supported` {
		t.Errorf("%+v, %+v", got["Accepted"], got["PartiallyInvalid"])
	}
}

// A message has at most 32768 bytes (metav1.Condition): the longest that is made, of
// rules and of backends, fits.
func TestLongestMessage(t *testing.T) {
	long := strings.Repeat("x", 253)
	var cs []condition
	for range maxListed + 1 {
		cs = append(cs, condition{unsupported, "spec.rules[15].backendRefs[15].filters[15].requestMirror.backendRef: Service " + long + "/" + long + " has no TCP port 65535"})
	}
	if n := len(partly(cs, cs)); n > 32768 {
		t.Errorf("%d bytes", n)
	}
}
