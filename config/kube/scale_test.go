package kube

import (
	"fmt"
	"testing"

	"waypoint.dev/waypoint/config"
)

// bigMesh is a namespace of services behind one waypoint, with pods, their
// EndpointSlices, routes and policies.
type bigMesh struct{ services, routes, pods, policies int }

func (g *bigMesh) object(t testing.TB, json string, args ...any) *Object {
	o, err := Decode(fmt.Appendf(nil, json, args...), "big")
	if err != nil {
		t.Fatal(err)
	}
	if o.Err != nil {
		t.Fatal(o.Err)
	}
	return o
}

func (g *bigMesh) ip(i, p int) string {
	n := i*g.pods + p
	return fmt.Sprintf("10.%d.%d.%d", 128+n>>16, n>>8&255, n&255)
}

func (g *bigMesh) pod(t testing.TB, i, p int, ready string) *Object {
	return g.object(t, `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"s%d-%d","namespace":"shop","labels":{"app":"s%d","version":"v1","pod-template-hash":"abc"},
		"annotations":{"ambient.istio.io/redirection":"enabled"},"ownerReferences":[{"kind":"ReplicaSet","name":"s%d-abc","controller":true}]},
		"spec":{"serviceAccountName":"s%d","nodeName":"node-%d","containers":[{"ports":[{"name":"http","containerPort":8080}]}]},
		"status":{"phase":"Running","podIPs":[{"ip":"%s"}],"conditions":[{"type":"Ready","status":"%s"}]}}`,
		i, p, i, i, i, (i+p)%50, g.ip(i, p), ready)
}

func (g *bigMesh) slice(t testing.TB, i, unready int) *Object {
	ends := ""
	for p := range g.pods {
		if p > 0 {
			ends += ","
		}
		ends += fmt.Sprintf(`{"addresses":["%s"],"conditions":{"ready":%t},"nodeName":"node-%d","targetRef":{"kind":"Pod","name":"s%d-%d","namespace":"shop"}}`, g.ip(i, p), p != unready, (i+p)%50, i, p)
	}
	return g.object(t, `{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":{"name":"s%d-x","namespace":"shop","labels":{"kubernetes.io/service-name":"s%d"}},
		"addressType":"IPv4","ports":[{"name":"http","port":8080,"protocol":"TCP"}],"endpoints":[%s]}`, i, i, ends)
}

func (g *bigMesh) service(t testing.TB, i int) *Object { return g.servicePort(t, i, 8080) }

func (g *bigMesh) servicePort(t testing.TB, i, target int) *Object {
	return g.object(t, `{"apiVersion":"v1","kind":"Service","metadata":{"name":"s%d","namespace":"shop","labels":{"app":"s%d"}},
		"spec":{"clusterIP":"10.%d.%d.%d","selector":{"app":"s%d"},"ports":[{"name":"http","port":80,"targetPort":%d}]}}`, i, i, 96+i>>16, i>>8&255, i&255, i, target)
}

func (g *bigMesh) route(t testing.TB, i, to int) *Object {
	return g.object(t, `{"apiVersion":"gateway.networking.k8s.io/v1","kind":"HTTPRoute","metadata":{"name":"r%d","namespace":"shop","generation":1,"creationTimestamp":"2026-01-01T00:00:00Z"},
		"spec":{"parentRefs":[{"group":"","kind":"Service","name":"s%d","port":80}],"rules":[
		{"matches":[{"path":{"type":"PathPrefix","value":"/api"}}],"backendRefs":[{"name":"s%d","port":80}]},
		{"backendRefs":[{"name":"s%d","port":80}]}]}}`, i, i%g.services, to%g.services, i%g.services)
}

func (g *bigMesh) policy(t testing.TB, i int, path string) *Object {
	return g.object(t, `{"apiVersion":"security.istio.io/v1","kind":"AuthorizationPolicy","metadata":{"name":"p%d","namespace":"shop"},
		"spec":{"targetRefs":[{"group":"","kind":"Service","name":"s%d"}],"rules":[{"to":[{"operation":{"paths":["%s"]}}]}]}}`, i, i, path)
}

func (g *bigMesh) store(t testing.TB) *Objects {
	s := NewObjects()
	s.Put(g.object(t, `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"shop","labels":{"istio.io/use-waypoint":"waypoint","istio.io/dataplane-mode":"ambient"}}}`))
	s.Put(g.object(t, `{"apiVersion":"gateway.networking.k8s.io/v1","kind":"GatewayClass","metadata":{"name":"waypoint"},"spec":{"controllerName":"waypoint.dev/controller"}}`))
	s.Put(g.object(t, `{"apiVersion":"gateway.networking.k8s.io/v1","kind":"Gateway","metadata":{"name":"waypoint","namespace":"shop"},"spec":{"gatewayClassName":"waypoint","listeners":[{"name":"mesh","port":15008,"protocol":"HBONE"}]}}`))
	for i := range 50 {
		s.Put(g.object(t, `{"apiVersion":"v1","kind":"Node","metadata":{"name":"node-%d","labels":{"topology.kubernetes.io/zone":"z%d"}}}`, i, i%3))
	}
	for i := range g.services {
		s.Put(g.service(t, i))
		for p := range g.pods {
			s.Put(g.pod(t, i, p, "True"))
		}
		s.Put(g.slice(t, i, -1))
	}
	for i := range g.routes {
		s.Put(g.route(t, i, i+1))
	}
	for i := range g.policies {
		s.Put(g.policy(t, i, "/"))
	}
	return s
}

// One change of each kind at 10,000 services, 5,000 routes, 50,000 endpoints and 2,000
// policies:
// what it takes to build and to compile.
func BenchmarkChange(b *testing.B) {
	g := &bigMesh{services: 10000, routes: 5000, pods: 5, policies: 2000}
	s := g.store(b)
	builder := NewBuilder(Options{Waypoint: config.Owner{Namespace: "shop", Name: "waypoint"}})
	snap, _ := config.Compile(builder.Build(s), nil, config.Env{})
	n := 0 // of the change: each is another one
	for _, c := range []struct {
		name string
		put  func() *Object
	}{
		{"EndpointSlice", func() *Object { return g.slice(b, n%g.services, n/g.services%2-n%2) }},
		{"Pod", func() *Object { return g.pod(b, n%g.services, 0, [2]string{"False", "True"}[n%2]) }},
		{"HTTPRoute", func() *Object { return g.route(b, n%2, n+3) }},
		{"AuthorizationPolicy", func() *Object { return g.policy(b, n%2, fmt.Sprintf("/%d", n)) }},
		{"NewService", func() *Object { return g.service(b, g.services+n) }},
		{"Service", func() *Object { return g.servicePort(b, n%2, 8080+n) }},
		{"ServiceEntry", func() *Object {
			return g.object(b, `{"apiVersion":"networking.istio.io/v1","kind":"ServiceEntry","metadata":{"name":"e","namespace":"shop"},"spec":{"hosts":["h%d.example.com"],"resolution":"DNS","ports":[{"number":80,"name":"http","protocol":"HTTP"}]}}`, n)
		}},
		{"WorkloadEntry", func() *Object {
			return g.object(b, `{"apiVersion":"networking.istio.io/v1","kind":"WorkloadEntry","metadata":{"name":"w","namespace":"shop"},"spec":{"address":"10.1.1.%d","labels":{"app":"vm"}}}`, 1+n%200)
		}},
		{"DestinationRule", func() *Object {
			return g.object(b, `{"apiVersion":"networking.istio.io/v1","kind":"DestinationRule","metadata":{"name":"d","namespace":"shop"},"spec":{"host":"s%d","trafficPolicy":{"connectionPool":{"tcp":{"maxConnections":%d}}}}}`, n%2, 1+n)
		}},
		{"WaypointPolicy", func() *Object {
			return g.object(b, `{"apiVersion":"waypoint.dev/v1alpha1","kind":"WaypointPolicy","metadata":{"name":"p","namespace":"shop"},"spec":{"targetRefs":[{"group":"","kind":"Service","name":"s1"}],"timeouts":{"request":"%ds"}}}`, 1+n)
		}},
	} {
		for _, half := range []string{"build", "compile"} {
			b.Run(c.name+"/"+half, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					n++
					b.StopTimer()
					o := c.put()
					if half == "build" {
						b.StartTimer()
					}
					s.Put(o)
					m := builder.Build(s)
					if half == "compile" {
						b.StartTimer()
					} else {
						b.StopTimer()
					}
					snap, _ = config.Compile(m, snap, config.Env{})
					b.StartTimer()
				}
			})
		}
	}
}
