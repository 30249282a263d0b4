package mesh

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"waypoint.dev/waypoint/conformance/lab"
)

// settle is how long a change may take to be seen everywhere. The suite grants 30 s; the
// lab's own view of the cluster may need more behind an outage of the API server, since
// client-go's informers ask again after up to 30 s, doubled by jitter.
const settle = 75 * time.Second

// poll is how often what has no event is asked for.
const poll = 25 * time.Millisecond

// eventually asks until there is no error.
func eventually(t *testing.T, ask func() error) {
	t.Helper()
	deadline := time.Now().Add(settle)
	for {
		err := ask()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(poll)
	}
}

// apply creates objects and deletes them after the test.
func apply(t *testing.T, manifests string) []*unstructured.Unstructured {
	t.Helper()
	list, err := cluster.Apply(t.Context(), manifests)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cluster.Delete(context.Background(), manifests); err != nil {
			t.Error(err)
		}
	})
	return list
}

// space makes a namespace with labels and deletes it after the test.
func space(t *testing.T, name string, labels map[string]string) {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
	if _, err := cluster.Client.CoreV1().Namespaces().Create(t.Context(), ns, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cluster.Client.CoreV1().Namespaces().Delete(context.Background(), name, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
}

// meshed are the labels of a namespace whose services use the waypoint.
func meshed() map[string]string {
	return map[string]string{
		"istio.io/dataplane-mode": "ambient", "istio.io/use-waypoint": waypointName,
		"istio.io/use-waypoint-namespace": meshNamespace,
	}
}

// app is a Deployment of the echo application, with a Service of its name and an account.
func app(ns, name, podLabels string) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: ServiceAccount
metadata: {name: %[2]s, namespace: %[1]s}
---
apiVersion: v1
kind: Service
metadata: {name: %[2]s, namespace: %[1]s}
spec:
  selector: {name: %[2]s}
  ports:
  - {name: http, port: 80, targetPort: 8080}
  - {name: grpc, port: 7070}
  - {name: tcp, port: 9090}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: %[2]s, namespace: %[1]s}
spec:
  selector: {matchLabels: {name: %[2]s}}
  template:
    metadata: {labels: {name: %[2]s, app: echo %[3]s}}
    spec:
      serviceAccountName: %[2]s
      containers:
      - name: echo
        image: registry.k8s.io/gateway-api/echo-advanced:v1.5.1
        args: [--port=8080, --grpc=7070, --tcp=9090]
        ports: [{containerPort: 8080}, {containerPort: 7070}, {containerPort: 9090}]
---
`, ns, name, podLabels)
}

// apps starts echo applications in a namespace of their own and waits for them.
func apps(t *testing.T, ns string, labels map[string]string, names ...string) {
	t.Helper()
	space(t, ns, labels)
	for _, n := range names {
		// They go with the namespace.
		if _, err := cluster.Apply(t.Context(), app(ns, n, "")); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range names {
		ready(t, ns, n)
	}
}

func ready(t *testing.T, ns, name string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := cluster.WaitDeployment(ctx, ns, name); err != nil {
		t.Fatal(err)
	}
}

// podOf returns the only pod of a Deployment.
func podOf(t *testing.T, ns, name string) *corev1.Pod {
	t.Helper()
	list, err := cluster.Client.CoreV1().Pods(ns).List(t.Context(), metav1.ListOptions{LabelSelector: "name=" + name})
	if err != nil {
		t.Fatal(err)
	}
	for i := range list.Items {
		if list.Items[i].DeletionTimestamp == nil {
			return &list.Items[i]
		}
	}
	t.Fatalf("%s/%s has no pod", ns, name)
	return nil
}

// caller sends requests as a process of a pod: its sockets are made in the pod's network,
// so that the node proxy takes them as the pod's.
type caller struct {
	t *testing.T
	http.Client
}

func newCaller(t *testing.T, ns, name string) *caller {
	t.Helper()
	n := cluster.Kubelet.Net(ns, podOf(t, ns, name).Name)
	if n == nil {
		t.Fatalf("%s/%s does not run", ns, name)
	}
	tr := &http.Transport{
		DisableCompression: true,
		DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			to, err := resolve(ns, addr)
			if err != nil {
				return nil, err
			}
			return n.Dial(ctx, to, 0)
		},
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &caller{t: t, Client: http.Client{
		Transport: tr, Timeout: 20 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// resolve is the pod's DNS.
func resolve(ns, addr string) (netip.AddrPort, error) {
	if ap, err := netip.ParseAddrPort(addr); err == nil {
		return ap, nil
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return netip.AddrPort{}, err
	}
	p, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return netip.AddrPort{}, err
	}
	name, space, ok := strings.Cut(strings.TrimSuffix(host, ".svc.cluster.local"), ".")
	if !ok {
		space = ns
	}
	svc := cluster.View.ServiceNamed(space, name)
	if svc == nil {
		return netip.AddrPort{}, fmt.Errorf("no Service %s/%s", space, name)
	}
	ip, err := netip.ParseAddr(svc.Spec.ClusterIP)
	return netip.AddrPortFrom(ip, uint16(p)), err
}

// answer is a response and what the application said of the request.
type answer struct {
	status  int
	header  http.Header
	body    string
	backend string // the pod
	seen    map[string][]string
}

// request headers as name, value pairs.
func (c *caller) do(method, url string, headers ...string) (*answer, error) {
	req, err := http.NewRequestWithContext(c.t.Context(), method, url, nil)
	if err != nil {
		return nil, err
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			req.Host = headers[i+1]
		}
		req.Header.Add(headers[i], headers[i+1])
	}
	res, err := c.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, err
	}
	a := &answer{status: res.StatusCode, header: res.Header, body: string(body), seen: map[string][]string{}}
	// The application answers with lines of Field=value, and RequestHeader=Name:value.
	for s := bufio.NewScanner(strings.NewReader(a.body)); s.Scan(); {
		k, v, ok := strings.Cut(s.Text(), "=")
		if !ok {
			continue
		}
		if k == "RequestHeader" {
			name, value, _ := strings.Cut(v, ":")
			k, v = "header:"+strings.ToLower(name), value
		}
		a.seen[k] = append(a.seen[k], v)
	}
	a.backend = a.first("Hostname")
	return a, nil
}

func (a *answer) first(field string) string {
	if v := a.seen[field]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// expect asks until the answer is as wanted.
func (c *caller) expect(method, url string, headers []string, want func(*answer) error) *answer {
	c.t.Helper()
	var last *answer
	eventually(c.t, func() error {
		a, err := c.do(method, url, headers...)
		if err != nil {
			return err
		}
		if err := want(a); err != nil {
			return fmt.Errorf("%s %s: %w; answer %d %v %.300s", method, url, err, a.status, a.header, a.body)
		}
		last = a
		return nil
	})
	return last
}

// status wants a status code.
func status(code int) func(*answer) error {
	return func(a *answer) error {
		if a.status != code {
			return fmt.Errorf("status %d, want %d", a.status, code)
		}
		return nil
	}
}

// served counts the HTTP requests that an application has answered.
func served(t *testing.T, pod *corev1.Pod) float64 {
	t.Helper()
	return metric(t, fmt.Sprintf("http://%s:%d/metrics", pod.Status.PodIP, lab.EchoMetrics), "istio_echo_http_requests_total")
}

// metric sums the samples of a metric that carry all of the given label="value" parts.
func metric(t *testing.T, url, name string, parts ...string) float64 {
	t.Helper()
	res, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	sum := 0.0
lines:
	for s := bufio.NewScanner(res.Body); s.Scan(); {
		line := s.Text()
		if !strings.HasPrefix(line, name+"{") && !strings.HasPrefix(line, name+" ") {
			continue
		}
		for _, p := range parts {
			if !strings.Contains(line, p) {
				continue lines
			}
		}
		v, err := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:], 64)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		sum += v
	}
	return sum
}
