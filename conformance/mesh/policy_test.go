package mesh

import (
	"net/http"
	"testing"
)

// TestAuthorization runs a policy with path templates, by caller, method and path.
func TestAuthorization(t *testing.T) {
	t.Parallel()
	const ns = "guarded"
	apps(t, ns, meshed(), "friend", "stranger", "front")
	apply(t, `{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: profiles, namespace: guarded},
spec: {targetRefs: [{group: "", kind: Service, name: front}], action: ALLOW, rules: [{
from: [{source: {principals: ["cluster.local/ns/guarded/sa/friend"]}}],
to: [{operation: {methods: [GET], paths: ["/users/{*}/profile", "/files/{**}"]}}]}]}}`)
	friend, stranger := newCaller(t, ns, "friend"), newCaller(t, ns, "stranger")
	friend.expect("GET", "http://front/other", nil, status(http.StatusForbidden))
	for _, tc := range []struct {
		c            *caller
		method, path string
		want         int
	}{
		{friend, "GET", "/users/7/profile", 200},
		{friend, "GET", "/users/7/profile?x=1", 200},
		{friend, "GET", "/files/a/b/c", 200},
		{friend, "GET", "/users/7/8/profile", 403},
		{friend, "GET", "/users//profile", 403},
		{friend, "GET", "/users/7/profile/", 403},
		{friend, "POST", "/users/7/profile", 403},
		{friend, "GET", "/files/../users/7/secret", 403},
		{stranger, "GET", "/users/7/profile", 403},
	} {
		a, err := tc.c.do(tc.method, "http://front"+tc.path)
		if err != nil {
			t.Errorf("%s %s: %v", tc.method, tc.path, err)
			continue
		}
		if a.status != tc.want {
			t.Errorf("%s %s: status %d, want %d", tc.method, tc.path, a.status, tc.want)
		}
	}
}
