package mesh

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"waypoint.dev/waypoint/conformance/lab/sandbox"
)

// TestGRPCHeaderModifier is MeshGRPCRouteRequestHeaderModifier, which the suite has from
// version 1.7 on: a match by header and the filter's three operations, on gRPC.
func TestGRPCHeaderModifier(t *testing.T) {
	t.Parallel()
	const ns = "rpc"
	apps(t, ns, meshed(), "client", "front", "back")
	rule := func(kind, filter string) string {
		return fmt.Sprintf(`{matches: [{headers: [{name: X-Test, value: %s}]}], filters: [{type: RequestHeaderModifier, requestHeaderModifier: %s}], backendRefs: [{name: back, port: 7070}]}`, kind, filter)
	}
	apply(t, `{apiVersion: gateway.networking.k8s.io/v1, kind: GRPCRoute, metadata: {name: headers, namespace: rpc},
spec: {parentRefs: [{group: "", kind: Service, name: front, port: 7070}], rules: [`+strings.Join([]string{
		rule("set", `{set: [{name: X-Header-Set, value: set-overwrites}]}`),
		rule("add", `{add: [{name: X-Header-Add, value: add-appends}]}`),
		rule("remove", `{remove: [X-Header-Remove]}`),
		rule("many", `{set: [{name: X-Header-Set, value: new}], add: [{name: X-Header-Add, value: two}], remove: [X-Header-Remove]}`),
	}, ", ")+`]}}`)
	call := func(headers ...string) (string, error) {
		args := []string{"client", "grpc://front:7070"}
		for _, h := range headers {
			args = append(args, "-H", h)
		}
		var out bytes.Buffer
		code, err := cluster.Kubelet.Exec(t.Context(), ns, podOf(t, ns, "client").Name, "echo", args, sandbox.Streams{Out: &out, Err: &out})
		if err != nil || code != 0 {
			return "", fmt.Errorf("exit code %d: %v: %s", code, err, out.String())
		}
		return strings.ToLower(out.String()), nil
	}
	for _, tc := range []struct {
		headers []string
		has     []string
		hasNot  []string
	}{
		{[]string{"X-Test:set"}, []string{"requestheader=x-header-set:set-overwrites"}, nil},
		{[]string{"X-Test:set", "X-Header-Set:old"}, []string{"requestheader=x-header-set:set-overwrites"}, []string{"old"}},
		{[]string{"X-Test:add"}, []string{"requestheader=x-header-add:add-appends"}, nil},
		{[]string{"X-Test:add", "X-Header-Add:first"}, []string{"first", "add-appends"}, nil},
		{[]string{"X-Test:remove", "X-Header-Remove:gone"}, nil, []string{"x-header-remove"}},
		{[]string{"X-Test:many", "X-Header-Set:old", "X-Header-Add:one", "X-Header-Remove:gone", "X-Kept:kept"},
			[]string{"requestheader=x-header-set:new", "one", "two", "requestheader=x-kept:kept"}, []string{"x-header-remove", "x-header-set:old"}},
	} {
		t.Run(strings.Join(tc.headers, " "), func(t *testing.T) {
			eventually(t, func() error {
				out, err := call(tc.headers...)
				if err != nil {
					return err
				}
				if !strings.Contains(out, "hostname=back-") {
					return fmt.Errorf("not answered by the backend: %s", out)
				}
				for _, want := range tc.has {
					if !strings.Contains(out, want) {
						return fmt.Errorf("%q is missing in %s", want, out)
					}
				}
				for _, not := range tc.hasNot {
					if strings.Contains(out, not) {
						return fmt.Errorf("%q is in %s", not, out)
					}
				}
				return nil
			})
		})
	}
}
