package feed

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/anypb"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/config/istiod"
	"waypoint.dev/waypoint/xds"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world records what it is told, refuses what is called "bad", and wants the
// endpoints of every cluster, and a secret of its name where that is "tls".
type world struct {
	mu       sync.Mutex
	has      map[string]bool // "type/name", guarded by mu
	removals []string
}

func (w *world) Apply(url string, ups []istiod.Resource, gone []string) (errs []*istiod.ResourceError) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, u := range ups {
		if strings.HasPrefix(u.Name, "bad") {
			errs = append(errs, &istiod.ResourceError{Type: url, Name: u.Name, Err: errors.New("broken")})
			continue
		}
		w.has[url+"/"+u.Name] = true
	}
	for _, n := range gone {
		delete(w.has, url+"/"+n)
		w.removals = append(w.removals, n)
	}
	return errs
}

func (w *world) Model() *config.Model { return &config.Model{} }

func (w *world) Wanted(url string) (names []string) {
	if url != istiod.EndpointsType && url != istiod.SecretType {
		return nil
	}
	for k := range w.has {
		if n, ok := strings.CutPrefix(k, istiod.ClusterType+"/"); ok && (url == istiod.EndpointsType || strings.HasPrefix(n, "tls")) {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	return names
}

// client records subscriptions.
type client struct {
	mu  sync.Mutex
	got [][]string // guarded by mu
}

func (c *client) Subscribe(url string, names []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.got = append(c.got, names)
}

// take returns the subscriptions since the last call.
func (c *client) take() [][]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	got := c.got
	c.got = nil
	return got
}

func response(url string, full bool, names ...string) *xds.Response {
	r := &xds.Response{Type: url, Full: full}
	for _, n := range names {
		r.Upserts = append(r.Upserts, &discovery.Resource{Name: n, Version: "1", Resource: &anypb.Any{TypeUrl: url}})
	}
	return r
}

type setup struct {
	f     *Feed
	w     *world
	c     *client
	built chan time.Time
}

func start(t *testing.T) *setup {
	s := &setup{w: &world{has: map[string]bool{}}, c: &client{}, built: make(chan time.Time, 1000)}
	s.f = New(Options{World: s.w, Publish: func(*config.Model) { s.built <- time.Now() }})
	s.f.Bind(s.c)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { s.f.Run(ctx); close(done) }()
	t.Cleanup(func() { cancel(); <-done })
	return s
}

// sync brings everything that the first model needs.
func (s *setup) sync(clusters ...string) {
	s.f.Apply(response(istiod.ClusterType, true, clusters...))
	s.f.Apply(response(istiod.EndpointsType, false, clusters...))
	s.f.Apply(response(istiod.ListenerType, true, "main_internal"))
	s.f.Apply(response(istiod.WorkloadType, true))
}

func TestReadyAfterClustersAndListeners(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t)
		if err := s.f.Ready(); err == nil || !strings.Contains(err.Error(), "Cluster") || !strings.Contains(err.Error(), "Listener") {
			t.Errorf("at first: %v", err)
		}
		s.f.Apply(response(istiod.ClusterType, true))
		time.Sleep(10 * time.Second)
		if len(s.built) > 0 || s.f.Ready() == nil {
			t.Error("clusters alone make a model")
		}
		s.f.Apply(response(istiod.ListenerType, true))
		s.f.Apply(response(istiod.WorkloadType, true))
		time.Sleep(time.Second)
		if len(s.built) != 1 || s.f.Ready() != nil {
			t.Errorf("%d models, %v", len(s.built), s.f.Ready())
		}
	})
}

func TestWaitsForEndpointsOfNewClusters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t)
		s.sync("a")
		time.Sleep(time.Second)
		<-s.built
		begin := time.Now()
		s.f.Apply(response(istiod.ClusterType, false, "b"))
		time.Sleep(200 * time.Millisecond)
		if len(s.built) != 0 {
			t.Fatal("built without the endpoints of a new cluster")
		}
		s.f.Apply(response(istiod.EndpointsType, false, "b"))
		if d := (<-s.built).Sub(begin); d > 250*time.Millisecond {
			t.Errorf("built %v after the change, the endpoints came after 200 ms", d)
		}
		// Endpoints that never come hold nothing up for long.
		begin = time.Now()
		s.f.Apply(response(istiod.ClusterType, false, "c"))
		if d := (<-s.built).Sub(begin); d < 400*time.Millisecond || d > 600*time.Millisecond {
			t.Errorf("built after %v, want about %v", d, warm)
		}
	})
}

// What never came is waited for once, not by every later change.
func TestWaitsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t)
		s.sync("a")
		<-s.built
		s.f.Apply(response(istiod.ClusterType, false, "tls"))
		s.f.Apply(response(istiod.EndpointsType, false, "tls"))
		<-s.built
		begin := time.Now()
		s.f.Apply(response(istiod.EndpointsType, false, "a"))
		if d := (<-s.built).Sub(begin); d > burst {
			t.Errorf("a change waits %v for a secret that was given up", d)
		}
		// A late one is taken all the same.
		s.f.Apply(response(istiod.SecretType, false, "tls"))
		<-s.built
		if !s.w.has[istiod.SecretType+"/tls"] {
			t.Error("the secret was not taken")
		}
	})
}

// A control plane that never answers for workloads delays the first model only.
func TestWithoutWorkloads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t)
		begin := time.Now()
		for _, url := range []string{istiod.ClusterType, istiod.ListenerType, istiod.EndpointsType} {
			s.f.Apply(response(url, true, "a"))
		}
		if d := (<-s.built).Sub(begin); d < firstWarm || d > firstWarm+burst {
			t.Errorf("the first model came after %v", d)
		}
		begin = time.Now()
		s.f.Apply(response(istiod.EndpointsType, false, "a"))
		if d := (<-s.built).Sub(begin); d > burst {
			t.Errorf("a change waits %v for workloads", d)
		}
	})
}

// Workloads may come as Addresses, among services.
func TestAddressesForWorkloads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t)
		s.sync()
		address := func(name string, field protowire.Number) *discovery.Resource {
			return &discovery.Resource{Name: name, Resource: &anypb.Any{TypeUrl: istiod.AddressType, Value: protowire.AppendBytes(protowire.AppendTag(nil, field, protowire.BytesType), []byte("body of "+name))}}
		}
		if err := s.f.Apply(&xds.Response{Type: istiod.WorkloadType, Full: true, Upserts: []*discovery.Resource{address("pod", 1), address("service", 2)}}); err != nil {
			t.Errorf("refused: %v", err)
		}
		h := s.f.Resources(istiod.WorkloadType)
		if len(h) != 1 || h[0].Name != "pod" || h[0].Body.TypeUrl != istiod.WorkloadType || string(h[0].Body.Value) != "body of pod" {
			t.Errorf("held %v", h)
		}
		if !s.w.has[istiod.WorkloadType+"/pod"] || s.w.has[istiod.WorkloadType+"/service"] {
			t.Errorf("the world has %v", s.w.has)
		}
		if body, ok := istiod.WorkloadIn([]byte{0xff}); !ok || len(body) != 1 {
			t.Error("what cannot be decoded must reach Apply, which refuses it")
		}
	})
}

// istiod does not say when a secret may be read at last, so it is asked.
func TestMissingSecretsAreAskedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		s := start(t)
		s.sync("a", "tls-1", "tls-2")
		s.f.Apply(response(istiod.SecretType, false, "tls-1"))
		<-s.built
		s.c.take()
		time.Sleep(time.Until(begin.Add(again - time.Millisecond)))
		if got := s.c.take(); len(got) != 0 {
			t.Errorf("asked too early: %v", got)
		}
		time.Sleep(time.Millisecond)
		synctest.Wait()
		if got := s.c.take(); len(got) != 2 || !slices.Equal(got[0], []string{"tls-1"}) || len(got[1]) != 2 {
			t.Errorf("asked %v", got)
		}
		s.f.Apply(response(istiod.SecretType, false, "tls-2"))
		s.c.take()
		time.Sleep(10 * again)
		if got := s.c.take(); len(got) != 0 {
			t.Errorf("asked for what is there: %v", got)
		}
	})
}

func TestBurstsAreBuiltOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t)
		s.sync("a")
		time.Sleep(time.Second)
		<-s.built
		for range 50 { // 1 ms apart: one burst that never falls quiet
			s.f.Apply(response(istiod.EndpointsType, false, "a"))
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Second)
		if n := len(s.built); n < 1 || n > 2 {
			t.Errorf("50 changes within 50 ms made %d models", n)
		}
	})
}

func TestRefusedResources(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t)
		err := s.f.Apply(response(istiod.ClusterType, true, "good", "bad1", "bad2"))
		if err == nil || !strings.Contains(err.Error(), "bad1") || !strings.Contains(err.Error(), "bad2") || strings.Contains(err.Error(), "good") {
			t.Errorf("refusal: %v", err)
		}
		if r := s.f.Refusals(istiod.ClusterType); len(r) != 2 || r[0].Name != "bad1" || r[0].Reason != "broken" {
			t.Errorf("refusals %v", r)
		}
		if h := s.f.Resources(istiod.ClusterType); len(h) != 1 || h[0].Name != "good" {
			t.Errorf("held %v", h)
		}
		s.f.Apply(&xds.Response{Type: istiod.ClusterType, Removed: []string{"bad1", "bad2"}})
		if r := s.f.Refusals(istiod.ClusterType); len(r) != 0 {
			t.Errorf("after removal: %v", r)
		}
		if err := s.f.Apply(&xds.Response{Type: istiod.ClusterType, Upserts: []*discovery.Resource{{Name: "x"}, {Name: "y", Resource: &anypb.Any{TypeUrl: istiod.ListenerType}}}}); err == nil || !strings.Contains(err.Error(), `"x"`) || !strings.Contains(err.Error(), `"y"`) {
			t.Errorf("no resource, and one of another type: %v", err)
		}
	})
}

func TestSubscriptionsFollowReferences(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t)
		s.sync("a", "b")
		if last := s.c.got[len(s.c.got)-1]; !slices.Equal(last, []string{"a", "b"}) {
			t.Errorf("subscribed to %v", last)
		}
		// A new stream that does not name b: its endpoints are given up and forgotten.
		s.f.Apply(response(istiod.ClusterType, true, "a"))
		if last := s.c.got[len(s.c.got)-1]; !slices.Equal(last, []string{"a"}) {
			t.Errorf("subscribed to %v", last)
		}
		if s.w.has[istiod.EndpointsType+"/b"] || s.w.has[istiod.ClusterType+"/b"] || len(s.f.Resources(istiod.EndpointsType)) != 1 {
			t.Errorf("kept: %v", s.w.has)
		}
		n := len(s.c.got)
		s.f.Apply(response(istiod.ClusterType, false, "a"))
		if len(s.c.got) != n {
			t.Error("subscribed again without need")
		}
	})
}
