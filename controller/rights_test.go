package controller

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/template"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/config/kube"
	"waypoint.dev/waypoint/controller/apitest"
)

// granted is one right of the chart.
type granted struct{ namespace, verb, group, resource, name string }

func (g granted) String() string {
	return strings.TrimSpace(fmt.Sprintf("%s %s.%s %s in %q", g.verb, g.resource, g.group, g.name, g.namespace))
}

// covers reports whether a right allows a request, as RBAC has it.
func (g granted) covers(q apitest.Request) bool {
	resource := q.Resource
	if q.Sub != "" {
		resource += "/" + q.Sub
	}
	return g.verb == q.Verb && g.group == q.Group && g.resource == resource &&
		(g.namespace == "" || g.namespace == q.Namespace) && (g.name == "" || g.name == q.Name)
}

// rights reads what a chart's template of roles grants in the namespace sys, by the few
// functions of Helm's that it uses; the chart's own tests render it by Helm.
func rights(t *testing.T, enabled bool, secret string) (out []granted) {
	t.Helper()
	const dir = "../deploy/chart/templates/"
	root := template.New("chart")
	root.Funcs(template.FuncMap{
		"include": func(name string, data any) (string, error) {
			var b bytes.Buffer
			err := root.ExecuteTemplate(&b, name, data)
			return strings.TrimSpace(b.String()), err
		},
		"nindent": func(n int, s string) string {
			pad := "\n" + strings.Repeat(" ", n)
			return pad + strings.ReplaceAll(s, "\n", pad)
		},
		"default": func(def, v any) any {
			if v == nil || v == "" {
				return def
			}
			return v
		},
		"quote":   func(v any) string { return fmt.Sprintf("%q", v) },
		"replace": func(old, new, s string) string { return strings.ReplaceAll(s, old, new) },
	})
	if _, err := root.ParseFiles(dir+"_helpers.tpl", dir+"rbac.yaml"); err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	if err := root.ExecuteTemplate(&text, "rbac.yaml", map[string]any{
		"Release": map[string]any{"Name": "waypoint-controller", "Namespace": "sys", "Service": "Helm"},
		"Chart":   map[string]any{"Name": "waypoint-controller", "Version": "1", "AppVersion": "1"},
		"Values": map[string]any{
			"image": map[string]any{"tag": ""}, "mesh": map[string]any{"rootNamespace": "istio-system"},
			"waypoint": map[string]any{"enabled": enabled}, "tls": map[string]any{"secretName": secret},
		},
	}); err != nil {
		t.Fatal(err)
	}
	for doc := range strings.SplitSeq(text.String(), "\n---\n") {
		var role rbacv1.Role // a ClusterRole reads like it
		if err := yaml.Unmarshal([]byte(doc), &role); err != nil {
			t.Fatalf("%v\n%s", err, doc)
		}
		for _, r := range role.Rules {
			names := r.ResourceNames
			if len(names) == 0 {
				names = []string{""} // any
			}
			for _, group := range r.APIGroups {
				for _, resource := range r.Resources {
					for _, verb := range r.Verbs {
						for _, name := range names {
							out = append(out, granted{role.Namespace, verb, group, resource, name})
						}
					}
				}
			}
		}
	}
	return out
}

// unseen are rights that no request shows. The admission plugin
// OwnerReferencesPermissionEnforcement asks for this one where an owner's deletion is to
// wait for what it owns.
var unseen = []granted{{"", "update", "gateway.networking.k8s.io", "gateways/finalizers", ""}}

// everything has an object of each kind with a status, all for the Service web.
const everything = apitest.Shop + `---
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: other}
spec: {controllerName: example.com/other}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: x, namespace: shop}
spec: {parentRefs: [{group: "", kind: Service, name: web}], rules: [{backendRefs: [{name: web, port: 80}]}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: x, namespace: shop}
spec: {parentRefs: [{group: "", kind: Service, name: web}], rules: [{backendRefs: [{name: web, port: 80}]}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: TLSRoute
metadata: {name: x, namespace: shop}
spec: {parentRefs: [{group: "", kind: Service, name: web}], hostnames: [a.example], rules: [{backendRefs: [{name: web, port: 80}]}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: {name: x, namespace: shop}
spec: {parentRefs: [{group: "", kind: Service, name: web}], rules: [{backendRefs: [{name: web, port: 80}]}]}
---
apiVersion: gateway.networking.x-k8s.io/v1alpha1
kind: XBackendTrafficPolicy
metadata: {name: x, namespace: shop}
spec: {targetRefs: [{group: "", kind: Service, name: web}], retryConstraint: {budget: {percent: 20, interval: 10s}}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: x, namespace: shop}
spec: {targetRefs: [{group: "", kind: Service, name: web}], action: DENY, rules: [{to: [{operation: {methods: [DELETE]}}]}]}
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: x, namespace: shop}
spec: {targetRefs: [{group: "", kind: Service, name: web}], jwtRules: [{issuer: a, jwks: '{"keys":[]}'}]}
---
apiVersion: waypoint.dev/v1alpha1
kind: WaypointPolicy
metadata: {name: x, namespace: shop}
spec: {targetRefs: [{group: "", kind: Service, name: web}], timeouts: {request: 1s}}
`

// TestRights compares what the chart grants with what a controller asks for in a life
// in which all happens that can: no right is missing, and none is for nothing.
func TestRights(t *testing.T) {
	for _, c := range []struct {
		name   string
		makes  bool   // it makes waypoints
		secret string // it has a mounted certificate
	}{{"as installed", true, ""}, {"waypoints of others, a mounted certificate", false, "cert"}} {
		t.Run(c.name, func(t *testing.T) {
			s := apitest.New()
			t.Cleanup(s.Close)
			for _, k := range kube.AppliedKinds() {
				if k.Group != "" && k.Group != "discovery.k8s.io" {
					s.Put("customresourcedefinitions", apitest.CRD(k.Group, k.Kind, apitest.Resource(apitest.Object{"kind": k.Kind}), k.Versions...))
				}
			}
			s.Load(everything)
			s.Review(func(string) string { return "system:serviceaccount:shop:waypoint" })
			written := crossed(s)
			cert, key := oldCertificate(t)
			change := func(o *Options) {
				o.Provision.MaxReplicas = 2
				if !c.makes {
					o.Provision.Image = ""
				}
				if c.secret == "" {
					return
				}
				dir := t.TempDir()
				o.Cert, o.Key, o.Roots = filepath.Join(dir, "cert"), filepath.Join(dir, "key"), filepath.Join(dir, "roots")
				for f, data := range map[string][]byte{o.Cert: cert, o.Key: key, o.Roots: cert} {
					if err := os.WriteFile(f, data, 0o600); err != nil {
						t.Fatal(err)
					}
				}
			}
			a := run(t, s, "a", change)
			eventually(t, "all statuses", func() bool { return len(written()) == 10 })
			roots := cert
			if c.makes {
				roots = trusted(t, s)
			}
			if _, err := a.asker(t, roots)("token", config.Owner{Namespace: "shop", Name: "waypoint"}); err != nil {
				t.Error(err)
			}
			if c.makes {
				// The budget is what is made last.
				eventually(t, "the waypoint", func() bool { return s.Get("policy", "poddisruptionbudgets", "shop", "waypoint") != nil })
				g := s.Get("gateway.networking.k8s.io", "gateways", "shop", "waypoint")
				g["spec"].(map[string]any)["gatewayClassName"] = "other"
				s.Put("gateways", g)
				eventually(t, "no waypoint", func() bool {
					return !slices.ContainsFunc([][3]string{
						{"", "serviceaccounts", "waypoint"}, {"", "services", "waypoint"}, {"", "configmaps", "waypoint-waypoint-controller-ca"},
						{"apps", "deployments", "waypoint"}, {"autoscaling", "horizontalpodautoscalers", "waypoint"}, {"policy", "poddisruptionbudgets", "waypoint"},
					}, func(o [3]string) bool { return s.Get(o[0], o[1], "shop", o[2]) != nil })
				})
			}
			a.end(t)
			if c.secret == "" {
				// Another replica finds a CA that is to be turned over.
				secret := s.Get("", "secrets", "sys", "waypoint-controller-ca")
				secret["data"] = apitest.Object{"tls.crt": base64.StdEncoding.EncodeToString(cert), "tls.key": base64.StdEncoding.EncodeToString(key)}
				s.Put("secrets", secret)
				b := run(t, s, "b", change)
				eventually(t, "a successor", func() bool {
					return s.Get("", "secrets", "sys", "waypoint-controller-ca")["data"].(map[string]any)["next.crt"] != nil
				})
				b.end(t)
			}
			compare(t, rights(t, c.makes, c.secret), s.Seen())
		})
	}
}

func compare(t *testing.T, have []granted, asked []apitest.Request) {
	t.Helper()
	for _, q := range slices.Clone(asked) {
		if q.Verb == "watch" {
			q.Verb = "list" // by an API server that cannot stream its lists
			asked = append(asked, q)
		}
	}
	for _, q := range asked {
		if !slices.ContainsFunc(have, func(g granted) bool { return g.covers(q) }) {
			t.Errorf("not granted: %+v", q)
		}
	}
	for _, g := range have {
		if !slices.ContainsFunc(asked, g.covers) && !slices.Contains(unseen, g) {
			t.Errorf("for nothing: %v", g)
		}
	}
}

// crossed has another controller's write cross the first status write of each kind, and
// returns how to tell of which kinds a status was written after that.
func crossed(s *apitest.Server) func() []string {
	var mu sync.Mutex
	var refused, written []string
	s.Before(func(method string, p apitest.Place) error {
		mu.Lock()
		defer mu.Unlock()
		if method != http.MethodPatch || p.Sub != "status" {
			return nil
		}
		if !slices.Contains(refused, p.Resource) {
			refused = append(refused, p.Resource)
			return apierrors.NewConflict(schema.GroupResource{Group: p.Group, Resource: p.Resource}, p.Name, errors.New("crossed"))
		}
		if !slices.Contains(written, p.Resource) {
			written = append(written, p.Resource)
		}
		return nil
	})
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(written)
	}
}

// oldCertificate is a CA, good for a server too, that ends soon.
func oldCertificate(t *testing.T) (cert, key []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "old"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		DNSNames: []string{"waypoint-controller.sys.svc"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}, &x509.Certificate{Subject: pkix.Name{CommonName: "old"}}, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
}
