package feed

import (
	"fmt"
	"strconv"
	"testing"
)

// mesh is a namespace of services behind one waypoint: pods 10.x.y.z, an
// EndpointSlice each, and routes for some of the services.
type mesh struct {
	services, routes, pods int // pods of a service
	version                int
}

func (m *mesh) next() string { m.version++; return fmt.Sprint(m.version) }

func (m *mesh) put(t testing.TB, s *Store, json string, args ...any) {
	t.Helper()
	if err := s.Put(objectOf(t, m.next(), json, args...)); err != nil {
		t.Fatal(err)
	}
}

// fill puts everything.
func (m *mesh) fill(t testing.TB, s *Store) {
	m.put(t, s, `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"shop","labels":{"istio.io/use-waypoint":"waypoint","istio.io/dataplane-mode":"ambient"}}}`)
	m.put(t, s, `{"apiVersion":"gateway.networking.k8s.io/v1","kind":"GatewayClass","metadata":{"name":"waypoint"},"spec":{"controllerName":"waypoint.dev/controller"}}`)
	m.put(t, s, `{"apiVersion":"gateway.networking.k8s.io/v1","kind":"Gateway","metadata":{"name":"waypoint","namespace":"shop"},"spec":{"gatewayClassName":"waypoint","listeners":[{"name":"mesh","port":15008,"protocol":"HBONE"}]}}`)
	for i := range 50 {
		m.put(t, s, `{"apiVersion":"v1","kind":"Node","metadata":{"name":"node-%d","labels":{"topology.kubernetes.io/zone":"z%d"}}}`, i, i%3)
	}
	for i := range m.services {
		m.service(t, s, i, 0)
		for p := range m.pods {
			m.pod(t, s, i, p)
		}
		m.slice(t, s, i, -1)
	}
	for i := range m.routes {
		m.route(t, s, i, i+1)
	}
	s.SetSynced()
}

func (m *mesh) ip(i, p int) string {
	n := i*m.pods + p
	return fmt.Sprintf("10.%d.%d.%d", 128+n>>16, n>>8&255, n&255)
}

// service puts a service, with a second port unless it is 0.
func (m *mesh) service(t testing.TB, s *Store, i, second int) {
	more := ""
	if second > 0 {
		more = fmt.Sprintf(`,{"name":"more","port":%d,"targetPort":8080}`, second)
	}
	m.put(t, s, `{"apiVersion":"v1","kind":"Service","metadata":{"name":"s%d","namespace":"shop","labels":{"app":"s%d"}},
		"spec":{"clusterIP":"10.%d.%d.%d","selector":{"app":"s%d"},"ports":[{"name":"http","port":80,"targetPort":8080}%s]}}`, i, i, 96+i>>16, i>>8&255, i&255, i, more)
}

func (m *mesh) pod(t testing.TB, s *Store, i, p int) { m.podAs(t, s, i, p, "s"+strconv.Itoa(i)) }

// podAs puts a pod of a service account.
func (m *mesh) podAs(t testing.TB, s *Store, i, p int, account string) {
	m.put(t, s, `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"s%d-%d","namespace":"shop","labels":{"app":"s%d","version":"v1","pod-template-hash":"abc"},
		"annotations":{"ambient.istio.io/redirection":"enabled"},"ownerReferences":[{"kind":"ReplicaSet","name":"s%d-abc","controller":true}]},
		"spec":{"serviceAccountName":"%s","nodeName":"node-%d","containers":[{"name":"app","image":"app:1","ports":[{"name":"http","containerPort":8080}]}]},
		"status":{"phase":"Running","podIP":"%s","podIPs":[{"ip":"%s"}],"conditions":[{"type":"Ready","status":"True"}]}}`,
		i, p, i, i, account, (i+p)%50, m.ip(i, p), m.ip(i, p))
}

// slice puts the endpoints of a service, of which one may be unready.
func (m *mesh) slice(t testing.TB, s *Store, i, unready int) {
	m.put(t, s, `{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":{"name":"s%d-x","namespace":"shop","labels":{"kubernetes.io/service-name":"s%d"}},
		"addressType":"IPv4","ports":[{"name":"http","port":8080,"protocol":"TCP"}],"endpoints":[%s]}`, i, i, m.endpoints(i, unready))
}

func (m *mesh) endpoints(i, unready int) (out string) {
	for p := range m.pods {
		if p > 0 {
			out += ","
		}
		out += fmt.Sprintf(`{"addresses":["%s"],"conditions":{"ready":%t},"nodeName":"node-%d","targetRef":{"kind":"Pod","name":"s%d-%d","namespace":"shop"}}`, m.ip(i, p), p != unready, (i+p)%50, i, p)
	}
	return out
}

// route sends /api of a service to another one.
func (m *mesh) route(t testing.TB, s *Store, i, to int) {
	m.put(t, s, `{"apiVersion":"gateway.networking.k8s.io/v1","kind":"HTTPRoute","metadata":{"name":"r%d","namespace":"shop","generation":1,"creationTimestamp":"2026-01-01T00:00:00Z"},
		"spec":{"parentRefs":[{"group":"","kind":"Service","name":"s%d","port":80}],"rules":[
		{"matches":[{"path":{"type":"PathPrefix","value":"/api"}}],"backendRefs":[{"name":"s%d","port":80}]},
		{"backendRefs":[{"name":"s%d","port":80}]}]}}`, i, i%m.services, to%m.services, i%m.services)
}
