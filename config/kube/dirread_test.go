package kube

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// files writes files below a directory; an empty text removes one.
func files(t *testing.T, dir string, texts map[string]string) {
	t.Helper()
	for name, text := range texts {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o700); err != nil {
			t.Fatal(err)
		}
		err := os.WriteFile(p, []byte(text), 0o600)
		if text == "" {
			err = os.Remove(p)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func problemLines(s *Objects) (out string) {
	for _, p := range s.Problems() {
		out += ProblemLine(p) + "\n"
	}
	return out
}

func namespaceFile(n string) string {
	return "apiVersion: v1\nkind: Namespace\nmetadata: {name: " + n + "}\n"
}

// A mounted ConfigMap: files are links into "..data", and so is a directory where an
// item has a path. What links lead back to is read once, what leads nowhere not at all.
func TestDirLinks(t *testing.T) {
	dir := t.TempDir()
	files(t, dir, map[string]string{"..1/a.yaml": namespaceFile("a"), "..1/sub/b.yaml": namespaceFile("b"), "kustomization.yaml": "resources: [a.yaml]"})
	for link, to := range map[string]string{"..data": "..1", "a.yaml": "..data/a.yaml", "sub": "..data/sub", "self": ".", "loop.yaml": "loop.yaml", "gone.yaml": "nowhere", "again": "sub"} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	outside := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, outside); err != nil {
		t.Fatal(err)
	}
	d := NewDir(outside)
	if _, err := d.Load(); err != nil || d.Objects().Len() != 2 || problemLines(d.Objects()) != "" {
		t.Fatal(err, d.Objects().Len(), problemLines(d.Objects()))
	}
	// The mount is swapped as a whole.
	files(t, dir, map[string]string{"..2/a.yaml": namespaceFile("c"), "..2/sub/b.yaml": namespaceFile("d")})
	if err := os.Symlink("..2", filepath.Join(dir, "..next")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, "..next"), filepath.Join(dir, "..data")); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Load(); err != nil || d.Objects().Len() != 2 || d.Objects().Get(Key{"", "Namespace", "", "d"}) == nil {
		t.Error(err, d.Objects().Len())
	}
}

// A policy that is moved and mistyped at once stays in force; so it does when its file
// comes to be one that cannot be read.
func TestDirBlind(t *testing.T) {
	policy := Key{groupSecurity, "AuthorizationPolicy", "shop", "p"}
	text := "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: shop}\nspec: {}\n"
	dir := t.TempDir()
	files(t, dir, map[string]string{"a.yaml": text})
	d := NewDir(dir)
	load := func() string {
		t.Helper()
		if changed, _ := d.Load(); !changed {
			t.Fatal("nothing changed")
		}
		return problemLines(d.Objects())
	}
	load()
	files(t, dir, map[string]string{"a.yaml": "", "b.yaml": text + "  }\n"})
	if says := load(); d.Objects().Get(policy) == nil || !strings.Contains(says, "b.yaml") || !strings.Contains(says, "what other files held before stays") {
		t.Errorf("%v\n%s", d.Objects().Get(policy), says)
	}
	files(t, dir, map[string]string{"b.yaml": namespaceFile("b")})
	if says := load(); d.Objects().Get(policy) != nil || says != "" {
		t.Errorf("%v\n%s", d.Objects().Get(policy), says)
	}
	files(t, dir, map[string]string{"b.yaml": text})
	load()
	if err := os.Truncate(filepath.Join(dir, "b.yaml"), maxFile+1); err != nil {
		t.Fatal(err)
	}
	if says := load(); d.Objects().Get(policy) == nil || !strings.Contains(says, "error: b.yaml: b.yaml: larger than") {
		t.Errorf("%v\n%s", d.Objects().Get(policy), says)
	}
}

// Documents that are no object of ours, each in its words.
func TestDirMistakes(t *testing.T) {
	for text, want := range map[string]string{
		"- a\n- b\n":        "error: f.yaml: f.yaml:1: is no object: is a list; nothing",
		"image: {tag: x}\n": "no apiVersion or kind: every document is a Kubernetes object",
		"apiVersion: v1\nkind: Service\nmetadata: {name: s, namespace: 5}":                                            "f.yaml:1: Service: metadata.namespace: is a number, want a string",
		"apiVersion: v1\nkind: Service\nmetadata: {namespace: shop}":                                                  "f.yaml:1: Service: metadata.name: required",
		"apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization":                                            "warning: f.yaml:1: Kustomization f.yaml:1: kind Kustomization",
		"apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {ports: [{port: \"80\"}]}":                         "Service default/s: spec.ports.port: is a string, want an integer",
		"apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {clusterIP: 10.96.0.300}":                          `spec.clusterIP: "10.96.0.300" is no IP address`,
		"apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {clusterIPs: [None, x]}":                           `spec.clusterIPs[1]: "x" is no IP address`,
		"apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {ports: [{name: a, port: 1}, {name: b, port: 1}]}": "spec.ports[1]: TCP port 1 is that of spec.ports[0] too",
		"apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {ports: [{name: a, port: 1}, {name: a, port: 2}]}": "spec.ports[1]: name a is that of spec.ports[0] too",
		"apiVersion: security.istio.io/v1\nkind: Authorizationpolicy\nmetadata: {name: s}":                            `error: f.yaml:1: Authorizationpolicy s: kind Authorizationpolicy of group "security.istio.io" is not known; ignored; there is a AuthorizationPolicy of group "security.istio.io"`,
		"apiVersion: networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: s}":                                      `warning: f.yaml:1: HTTPRoute s: kind HTTPRoute of group "networking.k8s.io" is not known; ignored; there is a HTTPRoute of group "gateway.networking.k8s.io"`,
	} {
		dir := t.TempDir()
		files(t, dir, map[string]string{"f.yaml": text})
		d := NewDir(dir)
		d.Load()
		if says := problemLines(d.Objects()); !strings.Contains(says, want) {
			t.Errorf("%q: no %q in\n%s", text, want, says)
		}
	}
	// The same port for TCP and UDP is no mistake.
	dns := "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {clusterIP: None, ports: [{name: a, port: 53, protocol: UDP}, {name: b, port: 53, protocol: TCP}]}"
	if says := problemLines(store(t, dns)); says != "" {
		t.Error(says)
	}
}

// Items of a list of one kind leave theirs out, as in the API server's answers.
func TestTypedList(t *testing.T) {
	s := store(t, `{"apiVersion": "v1", "kind": "ServiceList", "metadata": {}, "items": [{"metadata": {"name": "a", "namespace": "shop"}, "spec": {}}]}`)
	if s.Get(Key{"", "Service", "shop", "a"}) == nil {
		t.Error(problemLines(s))
	}
	if _, err := Parse("f", []byte(`{"apiVersion": "v1", "kind": "List", "items": [{"metadata": {"name": "a"}}]}`)); err == nil {
		t.Error("an object of no kind is taken")
	}
}
