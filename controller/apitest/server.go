package apitest

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// Object is an object as JSON has it.
type Object = map[string]any

// Server is the API server. Make it with New and close it.
type Server struct {
	http *httptest.Server

	mu        sync.Mutex
	version   int64             // guarded by mu, as all below
	compacted int64             // watches from before it have expired
	objects   map[string]Object // by place
	events    []event
	changed   chan struct{} // closed and replaced at each change
	epoch     chan struct{} // closed when all watches are to end
	down      bool
	before    func(method string, p Place) error
	review    func(token string) (user string)
	requests  map[string]int // by method and resource
	seen      map[Request]bool
	denied    map[string]bool
}

type event struct {
	version int64
	kind    string // ADDED, MODIFIED, DELETED
	place   Place
	object  Object
}

// Place is where an object is: API group, version, resource, namespace, name.
type Place struct{ Group, Version, Resource, Namespace, Name, Sub string }

func (p Place) key() string {
	return strings.Join([]string{p.Group, p.Resource, p.Namespace, p.Name}, "|")
}

// New starts a server.
func New() *Server {
	s := &Server{version: 100, objects: map[string]Object{}, changed: make(chan struct{}), epoch: make(chan struct{}), requests: map[string]int{}, seen: map[Request]bool{}, denied: map[string]bool{}}
	s.http = httptest.NewServer(http.HandlerFunc(s.serve))
	return s
}

// Close ends it.
func (s *Server) Close() {
	s.mu.Lock()
	s.down = true
	close(s.epoch)
	s.epoch = make(chan struct{})
	s.mu.Unlock()
	s.http.CloseClientConnections()
	s.http.Close()
}

// Clients returns clients of it.
func (s *Server) Clients() (kubernetes.Interface, dynamic.Interface) {
	c := &rest.Config{Host: s.http.URL, QPS: -1, ContentConfig: rest.ContentConfig{ContentType: "application/json", AcceptContentTypes: "application/json"}}
	core, err := kubernetes.NewForConfig(c)
	if err != nil {
		panic(err)
	}
	dyn, err := dynamic.NewForConfig(c)
	if err != nil {
		panic(err)
	}
	return core, dyn
}

// SetDown makes the server unreachable, or brings it back.
func (s *Server) SetDown(down bool) {
	s.mu.Lock()
	s.down = down
	if down {
		close(s.epoch)
		s.epoch = make(chan struct{})
	}
	s.mu.Unlock()
	if down {
		s.http.CloseClientConnections()
	}
}

// Expire ends every watch and forgets the events so far: a watch that goes on from
// where it was is told 410.
func (s *Server) Expire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version++
	s.compacted = s.version
	s.events = nil
	close(s.epoch)
	s.epoch = make(chan struct{})
}

// Before is asked before each request other than a watch; its error is answered as
// the Status it is, or 500.
func (s *Server) Before(f func(method string, p Place) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before = f
}

// Deny refuses every request about a resource, or no longer.
func (s *Server) Deny(resource string, deny bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.denied[resource] = deny
}

// Review answers TokenReviews: with a user's name, or none.
func (s *Server) Review(f func(token string) (user string)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.review = f
}

// Request is what somebody asked, by the verb that a right for it has.
type Request struct {
	Verb string
	Place
}

// Seen returns all that was asked so far.
func (s *Server) Seen() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.seen))
}

// Requests counts requests by "METHOD resource".
func (s *Server) Requests(what string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests[what]
}

// Put creates or replaces an object as its author would: the status that stands and
// the uid stay unless given, the generation grows with the spec.
func (s *Server) Put(resource string, o Object) Object {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.store(placeOf(resource, o), clone(o))
}

// Delete removes an object.
func (s *Server) Delete(group, resource, namespace, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remove(Place{Group: group, Resource: resource, Namespace: namespace, Name: name})
}

// Get returns a copy of an object, nil if there is none.
func (s *Server) Get(group, resource, namespace, name string) Object {
	s.mu.Lock()
	defer s.mu.Unlock()
	return clone(s.objects[Place{Group: group, Resource: resource, Namespace: namespace, Name: name}.key()])
}

// Changed is closed at the next write.
func (s *Server) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

// Until waits for a state of the server, 30 s at most: longer than any change takes on a
// machine that is busy. It reports whether ok held.
func (s *Server) Until(ok func() bool) bool {
	deadline := time.After(30 * time.Second)
	for {
		changed := s.Changed()
		if ok() {
			return true
		}
		select {
		case <-changed:
		case <-time.After(10 * time.Millisecond): // what ok looks at may change without it
		case <-deadline:
			return false
		}
	}
}

func placeOf(resource string, o Object) Place {
	group, version, ok := strings.Cut(text(o["apiVersion"]), "/")
	if !ok {
		group, version = "", group
	}
	m := metaOf(o)
	return Place{Group: group, Version: version, Resource: resource, Namespace: text(m["namespace"]), Name: text(m["name"])}
}

// store writes an object and tells the watches; mu is held.
func (s *Server) store(p Place, o Object) Object {
	s.version++
	old := s.objects[p.key()]
	m := metaOf(o)
	kind := "MODIFIED"
	if old == nil {
		kind = "ADDED"
		if m["uid"] == nil {
			m["uid"] = fmt.Sprintf("uid-%d", s.version)
		}
		m["generation"] = int64(1)
		if m["creationTimestamp"] == nil {
			m["creationTimestamp"] = "2026-01-01T00:00:00Z"
		}
	} else {
		was := metaOf(old)
		m["uid"], m["creationTimestamp"] = was["uid"], was["creationTimestamp"]
		g, _ := was["generation"].(int64)
		if !same(old["spec"], o["spec"]) {
			g++
		}
		m["generation"] = g
		if o["status"] == nil && old["status"] != nil {
			o["status"] = old["status"]
		}
	}
	if spec, ok := o["spec"].(map[string]any); ok && p.Resource == "deployments" && spec["replicas"] == nil {
		spec["replicas"] = int64(1) // the API's default
	}
	if old != nil && sameBut(old, o) {
		return clone(old)
	}
	m["resourceVersion"] = strconv.FormatInt(s.version, 10)
	s.objects[p.key()] = o
	s.tell(event{s.version, kind, p, clone(o)})
	return clone(o)
}

func (s *Server) remove(p Place) bool {
	o := s.objects[p.key()]
	if o == nil {
		return false
	}
	s.version++
	delete(s.objects, p.key())
	metaOf(o)["resourceVersion"] = strconv.FormatInt(s.version, 10)
	s.tell(event{s.version, "DELETED", p, o})
	// What the object owned goes with it, as the garbage collector has it.
	uid := metaOf(o)["uid"]
	for key, x := range maps.Clone(s.objects) {
		refs, _ := metaOf(x)["ownerReferences"].([]any)
		if slices.ContainsFunc(refs, func(r any) bool { m, ok := r.(map[string]any); return ok && m["uid"] == uid }) {
			f := strings.Split(key, "|")
			s.remove(Place{Group: f[0], Resource: f[1], Namespace: f[2], Name: f[3]})
		}
	}
	return true
}

func (s *Server) tell(e event) {
	s.events = append(s.events, e)
	close(s.changed)
	s.changed = make(chan struct{})
}

func metaOf(o Object) Object {
	m, ok := o["metadata"].(map[string]any)
	if !ok {
		m = Object{}
		o["metadata"] = m
	}
	return m
}

func text(v any) string { s, _ := v.(string); return s }

func clone(o Object) Object {
	if o == nil {
		return nil
	}
	b, err := json.Marshal(o)
	if err != nil {
		panic(err)
	}
	return decode(b)
}

func same(a, b any) bool {
	x, _ := json.Marshal(a)
	y, _ := json.Marshal(b)
	return string(x) == string(y)
}

// sameBut compares without the resourceVersion.
func sameBut(a, b Object) bool {
	x, y := clone(a), clone(b)
	for _, o := range []Object{x, y} {
		delete(metaOf(o), "resourceVersion")
	}
	return same(x, y)
}
