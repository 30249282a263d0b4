package provision

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write the golden files anew")

func settings() *Settings {
	return &Settings{
		ControllerName: ControllerName, Image: "example.com/waypoint:v1", Controller: "waypoint-controller.waypoint-system.svc:15012", Audience: "waypoint-controller",
		Roots: []byte("ROOTS"), Replicas: 2, MaxReplicas: 5, CPUPercent: 80,
		Mesh:     Mesh{TrustDomain: "cluster.local", RootNamespace: "istio-system", Domain: "cluster.local", ClusterID: "Kubernetes"},
		Identity: Identity{Mode: IdentityIstiod, CAAddress: "istiod.istio-system.svc:15012"},
	}
}

func gatewayOf(t *testing.T, text string) *Gateway {
	t.Helper()
	var g Gateway
	if err := yaml.Unmarshal([]byte(text), &g); err != nil {
		t.Fatal(err)
	}
	return &g
}

const plain = `
metadata: {name: waypoint, namespace: shop, uid: gw-uid, generation: 1}
spec:
  gatewayClassName: waypoint
  listeners: [{name: mesh, port: 15008, protocol: HBONE}]
`

func TestGolden(t *testing.T) {
	spiffe, files, fixed := settings(), settings(), settings()
	spiffe.Identity = Identity{Mode: IdentitySPIFFE, Volume: json.RawMessage(`{"csi":{"driver":"csi.spiffe.io","readOnly":true}}`)}
	files.Identity = Identity{Mode: IdentityFiles, Volume: json.RawMessage(`{"secret":{"secretName":"$(gateway)-identity"}}`)}
	fixed.MaxReplicas = 0
	fixed.Mesh.Network, fixed.Mesh.TrustAliases, fixed.Args = "net1", []string{"old.example"}, []string{"--access-log=-"}
	for _, c := range []struct {
		name     string
		settings *Settings
		gateway  string
		class    map[string]string
		own      map[string]string
	}{
		{"istiod", settings(), plain, nil, nil},
		{"spiffe", spiffe, plain, nil, nil},
		{"files", files, plain, nil, nil},
		{"fixed", fixed, plain, nil, nil},
		{"infrastructure", settings(), plain + `
  infrastructure:
    labels: {team: shop, gateway.networking.k8s.io/gateway-name: other}
    annotations: {cost: "7", prometheus.io/scrape: "false"}
`, map[string]string{
			"deployment":              "spec: {template: {spec: {containers: [{name: waypoint, resources: {requests: {cpu: 500m}}}], nodeSelector: {disk: ssd}}}}",
			"horizontalPodAutoscaler": "none",
		}, map[string]string{
			"deployment":              "metadata: {name: other, namespace: other}\nspec: {replicas: 3, template: {spec: {serviceAccountName: admin, containers: [{name: waypoint, env: [{name: A, value: b}]}, {name: extra, image: x}]}}}",
			"service":                 "spec: {type: LoadBalancer}",
			"serviceAccount":          "metadata: {annotations: {iam: role}}",
			"horizontalPodAutoscaler": "spec: {maxReplicas: 9}",
			"podDisruptionBudget":     "none",
		}},
	} {
		objs, err := Render(c.settings, Input{Gateway: gatewayOf(t, c.gateway), Class: c.class, Own: c.own})
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		var out strings.Builder
		for i, u := range objs {
			b, err := yaml.Marshal(u.Object)
			if err != nil {
				t.Fatal(err)
			}
			if i > 0 {
				out.WriteString("---\n")
			}
			out.Write(b)
		}
		file := filepath.Join("testdata", c.name+".yaml")
		if *update {
			if err := os.WriteFile(file, []byte(out.String()), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if out.String() != string(want) {
			t.Errorf("%s differs from %s; -update writes it anew\n%s", c.name, file, out.String())
		}
	}
}

func find(objs []*unstructured.Unstructured, kind string) *unstructured.Unstructured {
	for _, u := range objs {
		if u.GetKind() == kind {
			return u
		}
	}
	return nil
}

// TestParametersChangeNoIdentity: whatever parameters say, the objects keep their
// names, owner, selector and account.
func TestParametersChangeNoIdentity(t *testing.T) {
	objs, err := Render(settings(), Input{Gateway: gatewayOf(t, plain), Own: map[string]string{
		"deployment": "metadata: {name: x, namespace: kube-system, labels: {app.kubernetes.io/managed-by: me}, ownerReferences: []}\nspec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {gateway.networking.k8s.io/gateway-name: z}}, spec: {serviceAccountName: admin}}}",
		"service":    "metadata: {name: x}\nspec: {selector: {a: b}}",
	}})
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range objs {
		if u.GetNamespace() != "shop" || !strings.HasPrefix(u.GetName(), "waypoint") || u.GetLabels()[LabelManagedBy] != ManagedBy ||
			len(u.GetOwnerReferences()) != 1 || u.GetOwnerReferences()[0].UID != "gw-uid" {
			t.Errorf("%s %s/%s %v %v", u.GetKind(), u.GetNamespace(), u.GetName(), u.GetLabels(), u.GetOwnerReferences())
		}
	}
	d := find(objs, "Deployment").Object
	sa, _, _ := unstructured.NestedString(d, "spec", "template", "spec", "serviceAccountName")
	sel, _, _ := unstructured.NestedStringMap(d, "spec", "selector", "matchLabels")
	labels, _, _ := unstructured.NestedStringMap(d, "spec", "template", "metadata", "labels")
	if sa != "waypoint" || len(sel) != 1 || sel[labelGateway] != "waypoint" || labels[labelGateway] != "waypoint" || labels["istio.io/dataplane-mode"] != "none" {
		t.Errorf("account %s, selector %v, labels %v", sa, sel, labels)
	}
	svc, _, _ := unstructured.NestedStringMap(find(objs, "Service").Object, "spec", "selector")
	if len(svc) != 1 || svc[labelGateway] != "waypoint" {
		t.Errorf("selector %v", svc)
	}
}

func TestBadParameters(t *testing.T) {
	for _, c := range []struct{ key, text, want string }{
		{"deploymnet", "x", `"deploymnet" is none of`},
		{"deployment", "spec: [", "deployment: "},
		{"deployment", "[]", "is not an object"},
		{"deployment", "none", "is not an object"},
		{"deployment", "spec: {template: {spec: {contianers: []}}}", `unknown field "contianers"`},
		{"deployment", "spec: {replicas: many}", "deployment: "},
		{"service", "spec: {ports: 80}", "service: "},
	} {
		_, err := Render(settings(), Input{Gateway: gatewayOf(t, plain), Own: map[string]string{c.key: c.text}})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %q: %v", c.key, c.text, err)
		}
	}
}

func TestSettings(t *testing.T) {
	good := settings()
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Settings){
		"image":      func(s *Settings) { s.Image = "" },
		"controller": func(s *Settings) { s.Controller = "" },
		"mode":       func(s *Settings) { s.Identity.Mode = "magic" },
		"ca":         func(s *Settings) { s.Identity.CAAddress = "" },
		"volume":     func(s *Settings) { s.Identity = Identity{Mode: IdentityFiles} },
		"no volume": func(s *Settings) {
			s.Identity = Identity{Mode: IdentitySPIFFE, Volume: json.RawMessage(`{"sceret":{}}`)}
		},
		"replicas": func(s *Settings) { s.Replicas = 0 },
	} {
		s := settings()
		change(s)
		if s.Check() == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
