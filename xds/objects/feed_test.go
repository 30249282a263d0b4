package objects

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/config/kube"
	"waypoint.dev/waypoint/xds"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func resource(t testing.TB, name, version, json string) *discovery.Resource {
	b, err := proto.Marshal(wrapperspb.Bytes([]byte(json)))
	if err != nil {
		t.Fatal(err)
	}
	return &discovery.Resource{Name: name, Version: version, Resource: &anypb.Any{TypeUrl: TypeURL, Value: b}}
}

func complete(version string) *discovery.Resource {
	return &discovery.Resource{Name: Complete, Version: version, Resource: &anypb.Any{TypeUrl: TypeURL}}
}

func service(t testing.TB, name, version string) *discovery.Resource {
	return resource(t, "Service/shop/"+name, version, fmt.Sprintf(`{"apiVersion":"v1","kind":"Service","metadata":{"name":"%s","namespace":"shop","labels":{"v":"%s"}}}`, name, version))
}

func policy(t testing.TB, version, field string) *discovery.Resource {
	return resource(t, "AuthorizationPolicy/shop/p", version, fmt.Sprintf(`{"apiVersion":"security.istio.io/v1","kind":"AuthorizationPolicy","metadata":{"name":"p","namespace":"shop"},"spec":{"%s":"ALLOW"}}`, field))
}

// setup is a feed that runs in a bubble, with the names of what each build had.
type setup struct {
	f     *Feed
	built chan []string
}

func start(t *testing.T) *setup {
	s := &setup{built: make(chan []string, 100)}
	s.f = New(Options{Build: func(o *kube.Objects) {
		var names []string
		for _, x := range o.All("", "Service") {
			names = append(names, x.Name+x.Meta.Labels["v"])
		}
		for _, x := range o.All("security.istio.io", "AuthorizationPolicy") {
			names = append(names, x.Name)
		}
		s.built <- names
	}})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); s.f.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return s
}

func (s *setup) apply(removed []string, us ...*discovery.Resource) error {
	return s.f.Apply(&xds.Response{Type: TypeURL, Server: "test", Upserts: us, Removed: removed})
}

// Parts of a state are built together, and nothing is ready before the first.
func TestCompleteStates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t)
		if s.f.Ready() == nil {
			t.Error("ready at first")
		}
		if err := s.apply(nil, service(t, "a", "1")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if len(s.built) > 0 || s.f.Ready() == nil || s.f.Stats().Pending != 1 {
			t.Error("a part of a state was built")
		}
		s.apply(nil, service(t, "b", "1"), complete("1"))
		synctest.Wait()
		if got := <-s.built; !slices.Equal(got, []string{"a1", "b1"}) || s.f.Ready() != nil {
			t.Errorf("built %v, %v", got, s.f.Ready())
		}
		// A change and a removal.
		s.apply([]string{"Service/shop/a", "Service/shop/unknown"}, service(t, "b", "2"), complete("2"))
		if got := <-s.built; !slices.Equal(got, []string{"b2"}) {
			t.Errorf("built %v", got)
		}
		if st := s.f.Stats(); st.Objects != 1 || st.State != "2" || st.Server != "test" || st.Pending != 0 || st.At.IsZero() {
			t.Errorf("stats %+v", st)
		}
		if v := s.f.Versions(""); len(v) != 1 || v["Service/shop/b"] != "2" {
			t.Errorf("versions %v", v)
		}
		// The same again changes nothing.
		s.apply(nil, service(t, "b", "2"), complete("3"))
		time.Sleep(time.Second)
		if len(s.built) > 0 {
			t.Error("the same objects were built again")
		}
		// An empty first state is one.
		e := start(t)
		e.apply(nil, complete("1"))
		if got := <-e.built; got != nil {
			t.Errorf("built %v", got)
		}
		synctest.Wait()
		if err := e.f.Ready(); err != nil {
			t.Error(err)
		}
	})
}

// A storm of changes is built a few times, the last of it always.
func TestStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t)
		for i := range 100 {
			s.apply(nil, service(t, "a", fmt.Sprint(i)), complete(fmt.Sprint(i+1)))
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Second)
		var last []string
		n := len(s.built)
		for range n {
			last = <-s.built
		}
		if n < 5 || n > 15 || !slices.Equal(last, []string{"a99"}) {
			t.Errorf("%d builds, the last one of %v", n, last)
		}
		// After a pause there is no wait.
		begin := time.Now()
		s.apply(nil, service(t, "a", "x"), complete("200"))
		<-s.built
		if d := time.Since(begin); d > 0 {
			t.Errorf("a single change waited %v", d)
		}
	})
}

func TestRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t)
		s.apply(nil, policy(t, "1", "action"), complete("1"))
		<-s.built
		err := s.apply(nil, policy(t, "2", "actoin"), service(t, "a", "1"), complete("2"))
		if err == nil || err.Error() != "AuthorizationPolicy/shop/p: spec.actoin: unknown field" {
			t.Errorf("refusal %v", err)
		}
		if got := <-s.built; !slices.Equal(got, []string{"a1", "p"}) {
			t.Errorf("the good ones of a refused response, and the last good version: %v", got)
		}
		if r := s.f.Refusals(); len(r) != 1 || r[0].Name != "AuthorizationPolicy/shop/p" || r[0].Version != "2" || r[0].At.IsZero() {
			t.Errorf("refusals %v", r)
		}
		if v := s.f.Versions(""); v["AuthorizationPolicy/shop/p"] != "" || len(v) != 2 {
			t.Errorf("versions %v", v)
		}
		s.apply(nil, policy(t, "3", "action"), complete("3"))
		<-s.built
		if len(s.f.Refusals()) > 0 || s.f.Objects()[0] != (Held{"AuthorizationPolicy/shop/p", "3"}) {
			t.Errorf("after it was repaired: %v, %v", s.f.Refusals(), s.f.Objects())
		}
		// Gone, it is refused no more.
		s.apply(nil, policy(t, "4", "actoin"), complete("4"))
		<-s.built
		s.apply([]string{"AuthorizationPolicy/shop/p"}, complete("5"))
		if got := <-s.built; !slices.Equal(got, []string{"a1"}) || len(s.f.Refusals()) > 0 {
			t.Errorf("after its removal: %v, %v", got, s.f.Refusals())
		}
	})
}

func TestDecodeRefuses(t *testing.T) {
	good := service(t, "a", "1")
	for name, u := range map[string]*discovery.Resource{
		"a name of two parts":     {Name: "Service/a", Resource: good.Resource},
		"another name":            {Name: "Service/shop/b", Resource: good.Resource},
		"another kind":            {Name: "Pod/shop/a", Resource: good.Resource},
		"no resource":             {Name: "Service/shop/a"},
		"another type":            {Name: "Service/shop/a", Resource: &anypb.Any{TypeUrl: "x", Value: good.Resource.Value}},
		"a broken message":        {Name: "Service/shop/a", Resource: &anypb.Any{TypeUrl: TypeURL, Value: []byte{10, 200}}},
		"no JSON":                 resource(t, "Service/shop/a", "1", "{"),
		"an object without kind":  resource(t, "Service/shop/a", "1", `{"metadata":{"name":"a"}}`),
		"a Secret":                resource(t, "Secret/shop/a", "1", `{"apiVersion":"v1","kind":"Secret","metadata":{"name":"a","namespace":"shop"}}`),
		"an object without names": resource(t, "Service/shop/a", "1", `{"apiVersion":"v1","kind":"Service"}`),
	} {
		f := New(Options{Build: func(*kube.Objects) {}})
		err := f.Apply(&xds.Response{Type: TypeURL, Upserts: []*discovery.Resource{u}})
		if err == nil || !strings.HasPrefix(err.Error(), u.Name+": ") || f.Stats().Objects != 0 || len(f.Refusals()) != 1 {
			t.Errorf("%s: %v, %+v", name, err, f.Stats())
		}
	}
	var many []*discovery.Resource
	for i := range 200 {
		many = append(many, resource(t, fmt.Sprintf("Service/shop/s%03d", i), "1", "{"))
	}
	err := New(Options{}).Apply(&xds.Response{Upserts: many})
	if err == nil || strings.Count(err.Error(), "\n") != maxNamed || !strings.HasSuffix(err.Error(), "and 180 more") {
		t.Errorf("many: %v", err)
	}
}

func TestNames(t *testing.T) {
	for _, c := range [][3]string{{"Service", "shop", "cart"}, {"Node", "", "n1"}} {
		kind, ns, name, ok := ParseName(Name(c[0], c[1], c[2]))
		if !ok || kind != c[0] || ns != c[1] || name != c[2] {
			t.Errorf("%v: %s %s %s %v", c, kind, ns, name, ok)
		}
	}
	for _, s := range []string{"", "complete", "Service", "Service/shop", "Service/shop/", "/shop/cart", "Service/shop/cart/x"} {
		if _, _, _, ok := ParseName(s); ok {
			t.Errorf("%q is a name", s)
		}
	}
	gw := config.Owner{Namespace: "shop", Name: "waypoint", Class: "waypoint"}
	n, err := NewNode(gw, "pod-1")
	if err != nil {
		t.Fatal(err)
	}
	if got, instance, err := ParseNode(n); err != nil || got != gw || instance != "pod-1" {
		t.Errorf("node %v %q %v", got, instance, err)
	}
	for _, bad := range []config.Owner{{}, {Namespace: "a"}, {Namespace: "a/b", Name: "c"}, {Namespace: "a", Name: "b~c"}} {
		if _, err := NewNode(bad, "x"); err == nil {
			t.Errorf("%v makes a node", bad)
		}
	}
	for _, id := range []string{"", "waypoint~x~shop~c", "sidecar~x~shop/w~c", "waypoint~x~shop/w/x~c", "waypoint~x~/w~c"} {
		n.Id = id
		if _, _, err := ParseNode(n); err == nil {
			t.Errorf("%q is a node", id)
		}
	}
}

// Whatever comes is taken or refused by name.
func FuzzApply(f *testing.F) {
	f.Add("Service/shop/a", service(f, "a", "1").Resource.Value)
	f.Add("Node//n", []byte("\x0a\x02{}"))
	f.Add("AuthorizationPolicy/shop/p", policy(f, "1", "x").Resource.Value)
	f.Fuzz(func(t *testing.T, name string, value []byte) {
		feed := New(Options{Build: func(*kube.Objects) {}})
		err := feed.Apply(&xds.Response{Upserts: []*discovery.Resource{{Name: name, Version: "1", Resource: &anypb.Any{TypeUrl: TypeURL, Value: value}}, complete("1")}})
		st := feed.Stats()
		if name == Complete {
			return
		}
		if (err == nil) != (st.Refused == 0) || err == nil && st.Objects != 1 {
			t.Errorf("%v, %+v", err, st)
		}
		feed.build()
	})
}
