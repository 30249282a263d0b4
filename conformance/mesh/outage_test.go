package mesh

import (
	"context"
	"fmt"
	"net/http"
	"syscall"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"waypoint.dev/waypoint/conformance/lab"
)

// marking is a route that writes its mark into answers.
func marking(ns, name, mark string) string {
	return route(ns, name, "front", fmt.Sprintf(`[{matches: [{path: {type: PathPrefix, value: /%s}}], filters: [{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-route, value: %s}]}}], backendRefs: [{name: front, port: 80}]}]`, name, mark))
}

// marked wants the mark of a route, "" for none.
func marked(mark string) func(*answer) error {
	return func(a *answer) error {
		if got := a.header.Get("X-Route"); a.status != http.StatusOK || got != mark {
			return fmt.Errorf("status %d, mark %q, want %q", a.status, got, mark)
		}
		return nil
	}
}

var accepted = [][3]string{{"Accepted", "True", "Accepted"}, {"ResolvedRefs", "True", "ResolvedRefs"}}

// within is a context that a test's long steps share.
func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), startLimit)
	t.Cleanup(cancel)
	return ctx
}

// TestReplaced replaces the waypoint's pod twice under load: no request may be lost.
func TestReplaced(t *testing.T) {
	const ns = "busy"
	apps(t, ns, meshed(), "client", "front")
	l := underLoad(t, ns, "client", "front")
	for i := range 2 {
		patch := fmt.Sprintf(`{"spec":{"template":{"metadata":{"annotations":{"test/replaced":"%d"}}}}}`, i)
		if _, err := cluster.Client.AppsV1().Deployments(meshNamespace).Patch(t.Context(), waypointName, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{FieldManager: "test"}); err != nil {
			t.Fatal(err)
		}
		wctx, stop := context.WithTimeout(t.Context(), 90*time.Second)
		if err := cluster.WaitDeployment(wctx, meshNamespace, waypointName); err != nil {
			t.Fatal(err)
		}
		// The old pod drains after the new one is ready.
		for wctx.Err() == nil {
			pods, err := cluster.Client.CoreV1().Pods(meshNamespace).List(wctx, metav1.ListOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if len(pods.Items) == 1 {
				break
			}
			time.Sleep(poll)
		}
		stop()
	}
	l.end("the waypoint was replaced twice")
}

// TestAPIServerAway kills the control plane under load, twice: what is served stays, and
// what changes after it is back arrives. The second time the controller stands still
// meanwhile, so that its watches are of a past that nobody knows any more (410).
func TestAPIServerAway(t *testing.T) {
	const ns = "away"
	apps(t, ns, meshed(), "client", "front")
	c := newCaller(t, ns, "client")
	apply(t, route(ns, "rest", "front", `[{backendRefs: [{name: front, port: 80}]}]`))
	apply(t, marking(ns, "one", "old"))
	c.expect("GET", "http://front/one", nil, marked("old"))
	past := version(t)
	apply(t, marking(ns, "two", "old"))
	c.expect("GET", "http://front/two", nil, marked("old"))
	l := underLoad(t, ns, "client", "front")
	lists := controllers(t, "waypoint_controller_lists_total")

	cluster.StopControlPlane()
	l.flow(200)
	c.CloseIdleConnections()
	c.expect("GET", "http://front/one", nil, marked("old"))
	if err := cluster.StartControlPlane(within(t)); err != nil {
		t.Fatal(err)
	}
	expired(t, past)
	reapply(t, marking(ns, "one", "new"))
	c.expect("GET", "http://front/one", nil, marked("new"))
	expectStatus(t, httpRoutes, ns, "one", accepted...)
	eventually(t, func() error {
		if now := controllers(t, "waypoint_controller_lists_total"); now <= lists {
			return fmt.Errorf("the controllers have read %v lists, before %v: no watch of theirs expired", now, lists)
		}
		return nil
	})

	past = version(t)
	signalControllers(t, syscall.SIGSTOP)
	defer signalControllers(t, syscall.SIGCONT)
	reapply(t, marking(ns, "one", "newest"))
	if err := cluster.Delete(t.Context(), marking(ns, "two", "old")); err != nil {
		t.Fatal(err)
	}
	cluster.StopControlPlane()
	if err := cluster.StartControlPlane(within(t)); err != nil {
		t.Fatal(err)
	}
	expired(t, past)
	c.expect("GET", "http://front/one", nil, marked("new"))
	signalControllers(t, syscall.SIGCONT)
	c.expect("GET", "http://front/one", nil, marked("newest"))
	c.expect("GET", "http://front/two", nil, marked(""))
	expectStatus(t, httpRoutes, ns, "one", accepted...)
	l.end("the API server was killed twice")
}

// TestControllerAway takes the controller away under load, by a signal, in good order and
// altogether: what changes meanwhile arrives when it is back, and a waypoint that starts
// meanwhile waits for it.
func TestControllerAway(t *testing.T) {
	const ns = "alone"
	apps(t, ns, meshed(), "client", "front")
	c := newCaller(t, ns, "client")
	apply(t, route(ns, "rest", "front", `[{backendRefs: [{name: front, port: 80}]}]`))
	apply(t, marking(ns, "one", "old"))
	c.expect("GET", "http://front/one", nil, marked("old"))
	apps(t, "late", map[string]string{"istio.io/dataplane-mode": "ambient", "istio.io/use-waypoint": "own"}, "client", "front")
	apply(t, `{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: own, namespace: late},
spec: {gatewayClassName: waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}}`)
	if err := cluster.WaitGateway(within(t), "late", "own"); err != nil {
		t.Fatal(err)
	}
	l := underLoad(t, ns, "client", "front")

	signalControllers(t, syscall.SIGKILL)
	reapply(t, marking(ns, "one", "killed"))
	c.expect("GET", "http://front/one", nil, marked("killed"))
	expectStatus(t, httpRoutes, ns, "one", accepted...)

	pods := cluster.Client.CoreV1().Pods(lab.ControllerNamespace)
	if err := pods.DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
		t.Fatal(err)
	}
	reapply(t, marking(ns, "one", "replaced"))
	c.expect("GET", "http://front/one", nil, marked("replaced"))
	expectStatus(t, httpRoutes, ns, "one", accepted...)

	before := scaleController(t, 0)
	if err := lab.Wait(within(t), "the end of the controller", func() (bool, error) {
		list, err := pods.List(t.Context(), metav1.ListOptions{})
		return err == nil && len(list.Items) == 0, err
	}); err != nil {
		t.Fatal(err)
	}
	reapply(t, marking(ns, "one", "absent"))
	apply(t, marking("late", "one", "late"))
	if err := cluster.Client.CoreV1().Pods("late").DeleteCollection(t.Context(), metav1.DeleteOptions{GracePeriodSeconds: new(int64)},
		metav1.ListOptions{LabelSelector: "gateway.networking.k8s.io/gateway-name=own"}); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error { return unready(t, "late", "own") })
	c.expect("GET", "http://front/one", nil, marked("replaced"))
	scaleController(t, before)
	newCaller(t, "late", "client").expect("GET", "http://front/one", nil, marked("late"))
	c.expect("GET", "http://front/one", nil, marked("absent"))
	if err := cluster.WaitDeployment(within(t), lab.ControllerNamespace, lab.ControllerName); err != nil {
		t.Fatal(err)
	}
	expectStatus(t, httpRoutes, ns, "one", accepted...)
	l.end("the controller was killed, replaced and taken away")
}

// reapply changes what a test has applied.
func reapply(t *testing.T, manifests string) {
	t.Helper()
	if _, err := cluster.Apply(t.Context(), manifests); err != nil {
		t.Fatal(err)
	}
}

// version is where a watch of routes would start now.
func version(t *testing.T) string {
	t.Helper()
	list, err := cluster.Dynamic.Resource(httpRoutes).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return list.GetResourceVersion()
}

// expired wants the API server to refuse a watch from a version, as it does those of the
// controller from before that.
func expired(t *testing.T, version string) {
	t.Helper()
	w, err := cluster.Dynamic.Resource(httpRoutes).Watch(t.Context(), metav1.ListOptions{ResourceVersion: version})
	if err == nil {
		defer w.Stop()
		e := <-w.ResultChan()
		if e.Type != watch.Error {
			t.Fatalf("a watch from before the restart goes on: %v", e)
		}
		err = apierrors.FromObject(e.Object)
	}
	if !apierrors.IsResourceExpired(err) && !apierrors.IsGone(err) {
		t.Fatalf("a watch from before the restart: %v", err)
	}
}

// controllerPods are the names of the controller's replicas.
func controllerPods(t *testing.T) (names, addrs []string) {
	t.Helper()
	list, err := cluster.Client.CoreV1().Pods(lab.ControllerNamespace).List(t.Context(), metav1.ListOptions{})
	if err != nil || len(list.Items) == 0 {
		t.Fatalf("no controller: %v", err)
	}
	for _, p := range list.Items {
		names, addrs = append(names, p.Name), append(addrs, p.Status.PodIP)
	}
	return names, addrs
}

// controllers sums a metric over the controller's replicas.
func controllers(t *testing.T, name string) (sum float64) {
	t.Helper()
	_, addrs := controllerPods(t)
	for _, a := range addrs {
		sum += metric(t, "http://"+a+":15014/metrics", name)
	}
	return sum
}

func signalControllers(t *testing.T, sig syscall.Signal) {
	t.Helper()
	names, _ := controllerPods(t)
	for _, n := range names {
		if err := cluster.Kubelet.Signal(lab.ControllerNamespace, n, "", sig); err != nil {
			t.Error(err)
		}
	}
}

// scaleController returns how many replicas there were.
func scaleController(t *testing.T, replicas int32) (before int32) {
	t.Helper()
	ds := cluster.Client.AppsV1().Deployments(lab.ControllerNamespace)
	d, err := ds.Get(t.Context(), lab.ControllerName, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	patch := fmt.Sprintf(`{"spec":{"replicas":%d}}`, replicas)
	if _, err := ds.Patch(t.Context(), lab.ControllerName, types.MergePatchType, []byte(patch), metav1.PatchOptions{FieldManager: "test"}); err != nil {
		t.Fatal(err)
	}
	return *d.Spec.Replicas
}

// unready wants the pod of a Gateway to run and to say that it is not ready.
func unready(t *testing.T, ns, gateway string) error {
	list, err := cluster.Client.CoreV1().Pods(ns).List(t.Context(), metav1.ListOptions{LabelSelector: "gateway.networking.k8s.io/gateway-name=" + gateway})
	if err != nil {
		return err
	}
	for _, p := range list.Items {
		if p.DeletionTimestamp != nil {
			continue
		}
		res, err := http.Get("http://" + p.Status.PodIP + ":15021/healthz/ready")
		if err != nil {
			return err
		}
		res.Body.Close()
		if res.StatusCode != http.StatusServiceUnavailable {
			t.Fatalf("a waypoint without configuration says %d to who asks whether it is ready", res.StatusCode)
		}
		return nil
	}
	return fmt.Errorf("no pod of %s/%s runs", ns, gateway)
}
