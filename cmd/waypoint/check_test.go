package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func checkOf(args ...string) (string, error) {
	cmd := checkCommand()
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SetArgs(args)
	cmd.SilenceUsage, cmd.SilenceErrors = true, true
	err := cmd.Execute()
	return out.String(), err
}

// The examples hold every kind of stage, and nothing of them is wrong.
func TestCheckExamples(t *testing.T) {
	dirs, err := filepath.Glob("../../examples/*/mesh.yaml")
	if err != nil || len(dirs) < 10 {
		t.Fatal(dirs, err)
	}
	for _, d := range dirs {
		if out, err := checkOf(filepath.Dir(d)); err != nil || strings.Contains(out, "error:") {
			t.Errorf("%s: %v\n%s", filepath.Dir(d), err, out)
		}
	}
}

// What only compiling finds is told with the file that it stands in.
func TestCheckLocates(t *testing.T) {
	mesh, err := os.ReadFile("../../examples/canary/mesh.yaml")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	route := `---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r, namespace: shop}
spec:
  parentRefs: [{group: "", kind: Service, name: cart}]
  rules:
  - filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: content-length, value: "1"}]}}]
    backendRefs: [{name: cart, port: 80}]
`
	if err := os.WriteFile(filepath.Join(dir, "mesh.yaml"), append(mesh, "\n"+route...), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := checkOf("-q", dir)
	if err == nil || !strings.HasPrefix(out, "error: mesh.yaml:") || !strings.Contains(out, "HTTPRoute shop/r: spec.rules[0].filters.request.set[0]: content-length belongs to the connection") {
		t.Errorf("%v\n%s", err, out)
	}
}
