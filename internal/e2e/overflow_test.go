package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"waypoint.dev/waypoint/resilience"
	"waypoint.dev/waypoint/telemetry"
)

// response is what became of a request made beside others.
type response struct {
	id, body   string
	code       int
	overloaded bool
}

// begin makes a request on a connection of its own; its outcome arrives at out.
func (m *mesh) begin(id, path string, out chan<- response) {
	m.t.Helper()
	req, err := http.NewRequest("GET", "http://"+m.front("clients", 1)+path, nil)
	if err != nil {
		m.t.Fatal(err)
	}
	req.Host = "cart.shop"
	req.Header.Set("X-Request-Id", id)
	go func() {
		r := response{id: id}
		if resp, err := m.http.Do(req); err == nil {
			b, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			r.body, r.code, r.overloaded = string(b), resp.StatusCode, resp.Header.Get("X-Envoy-Overloaded") == "true"
		}
		out <- r
	}()
}

// usage reads the limits of a backend of this mesh.
func (m *mesh) usage(backend string) resilience.Usage {
	m.t.Helper()
	state, ok := m.w.Store.Load().Target(backend).State().(interface{ Usage() resilience.Usage })
	if !ok {
		m.t.Fatalf("%s has no limits", backend)
	}
	return state.Usage()
}

func pool(spec string) string {
	return fmt.Sprintf(`---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: cart, namespace: shop}
spec: {host: cart, trafficPolicy: {connectionPool: %s}}
`, spec)
}

// The limits of connectionPool, each reached by requests that the application holds.
func TestConnectionPoolOverflow(t *testing.T) {
	const key = "cart.shop.svc.cluster.local|80"
	overflowed := func(m *mesh, r response) {
		m.t.Helper()
		rec := m.record(r.id)
		if r.code != 503 || !strings.HasSuffix(r.body, "reset reason: overflow") || !r.overloaded || rec.Flags != telemetry.FlagUO || rec.UpstreamCluster != cluster(key) {
			m.t.Errorf("%+v, logged %v at %q", r, rec.Flags, rec.UpstreamCluster)
		}
	}
	for name, tt := range map[string]struct {
		pool    string
		beside  int // requests made while the first is held; the last of them overflows
		refused func(resilience.Usage) uint64
	}{
		"http2MaxRequests":        {"{http: {http2MaxRequests: 1}}", 1, func(u resilience.Usage) uint64 { return u.RequestsRefused }},
		"http1MaxPendingRequests": {"{tcp: {maxConnections: 1}, http: {http1MaxPendingRequests: 1}}", 2, func(u resilience.Usage) uint64 { return u.PendingRefused }},
	} {
		t.Run(name, func(t *testing.T) {
			m := startMesh(t, nil)
			m.serve(frame + pod(podV1) + service(1, "cart", "http", 8080, podV1) + pool(tt.pool))
			held := make(chan struct{})
			m.v1.Hold(held)
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			first, out := make(chan response, 1), make(chan response, 2)
			m.begin(name+"-held", "/", first)
			if len(m.v1.Await(ctx, name+"-held")) != 1 {
				t.Fatal("the first request did not arrive")
			}
			for i := range tt.beside {
				m.begin(fmt.Sprintf("%s-%d", name, i), "/", out)
			}
			overflowed(m, <-out) // what waits is not answered before held is
			if n := tt.refused(m.usage(key)); n != 1 {
				t.Errorf("%d refused", n)
			}
			close(held)
			if r := <-first; r.code != 200 {
				t.Errorf("the held request: %+v", r)
			}
			for range tt.beside - 1 {
				if r := <-out; r.code != 200 {
					t.Errorf("a request that waited: %+v", r)
				}
			}
		})
	}

	// Two requests want to retry; one may, the other gets the answer it has.
	t.Run("maxRetries", func(t *testing.T) {
		m := startMesh(t, nil)
		m.serve(frame + pod(podV1) + service(1, "cart", "http", 8080, podV1) + pool("{http: {maxRetries: 1}}") + `---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: cart, namespace: shop}
spec:
  parentRefs: [{group: "", kind: Service, name: cart, port: 80}]
  rules: [{retry: {attempts: 1, codes: [503], backoff: 1ms}, backendRefs: [{name: cart, port: 80}]}]
`)
		tries, retries := make(chan struct{}), make(chan struct{})
		m.v1.Hold(tries)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		out := make(chan response, 2)
		for _, id := range []string{"retry-a", "retry-b"} {
			m.begin(id, "/?status=503", out)
			if len(m.v1.Await(ctx, id)) != 1 {
				t.Fatal(id, "did not arrive")
			}
		}
		m.v1.Hold(retries)
		close(tries)
		r := <-out
		if rec := m.record(r.id); r.code != 503 || r.overloaded || rec.Flags != telemetry.FlagUO || rec.Attempts != 1 {
			t.Errorf("the one that may not: %+v, logged %v after %d", r, rec.Flags, rec.Attempts)
		}
		close(retries)
		r = <-out
		if rec := m.record(r.id); r.code != 503 || rec.Flags != telemetry.FlagURX || rec.Attempts != 2 {
			t.Errorf("the one that may: %+v, logged %v after %d", r, rec.Flags, rec.Attempts)
		}
		if u := m.usage(key); u.RetriesRefused != 1 || u.Retries != 0 {
			t.Errorf("%+v", u)
		}
	})

	t.Run("TCP maxConnections", func(t *testing.T) {
		m := startMesh(t, nil)
		greet(t, podV1+":7070", "hi", nil)
		m.serve(frame + pod(podV1) + service(1, "cart", "tcp", 7070, podV1) + pool("{tcp: {maxConnections: 1}}"))
		const at = "10.96.7.1:80"
		first, err := net.Dial("tcp", m.frontTo("clients", at))
		if err != nil {
			t.Fatal(err)
		}
		if got := line(first); got != "hi" {
			t.Errorf("the first connection reads %q", got)
		}
		second := m.talk("clients", at, "", func(c net.Conn) {
			if got := line(c); got != "" {
				t.Errorf("the second connection reads %q", got)
			}
		})
		if second.Flags != telemetry.FlagUO || second.Details != "overflow" || second.Attempts != 0 {
			t.Errorf("the second connection: %v %s after %d", second.Flags, second.Details, second.Attempts)
		}
		first.Close()
		m.mu.Lock()
		for len(m.conns) < 2 {
			m.arrived.Wait()
		}
		flags := m.conns[1].Flags
		m.mu.Unlock()
		if u := m.usage(key); flags != 0 || u.ConnectionsRefused != 1 || u.Connections != 0 {
			t.Errorf("the first connection: %v, %+v", flags, u)
		}
		m.talk("clients", at, "", func(c net.Conn) {
			if got := line(c); got != "hi" {
				t.Errorf("behind the first, %q", got)
			}
		})
	})
}
