package demo

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Row is one line of the tour.
type Row struct {
	Name                            string
	Request, Identity, Decision, By string
	Backend, Status                 string
	Problem                         string // empty: as expected
}

const (
	splitRequests = 1000
	// The share of v1 is binomial: 900 with a deviation of 9.5. Five deviations
	// to either side fail a correct split about once in two million runs.
	splitLow, splitHigh = 852, 948
	killRequests        = 600
	killWorkers         = 4
)

// visitor sends requests as one identity through its captured connection.
type visitor struct {
	m    *mesh
	as   string
	http *http.Client
	n    atomic.Int64
}

func (m *mesh) visitor(as string) *visitor {
	return &visitor{m: m, as: as, http: &http.Client{
		Timeout:   10 * time.Second,
		Transport: &http.Transport{MaxIdleConnsPerHost: killWorkers},
	}}
}

func (v *visitor) close() { v.http.CloseIdleConnections() }

// get sends one request and returns its id, status (0: none came) and body.
func (v *visitor) get(ctx context.Context, row, path string, header ...string) (id string, status int, body string, err error) {
	id = fmt.Sprintf("demo-%s-%d", row, v.n.Add(1))
	req, err := http.NewRequestWithContext(ctx, "GET", "http://"+v.m.captures[v.as].Addr().String()+path, nil)
	if err != nil {
		return id, 0, "", err
	}
	req.Host = "cart.shop.svc.cluster.local"
	req.Header.Set("X-Request-Id", id)
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := v.http.Do(req)
	if err != nil {
		return id, 0, "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return id, res.StatusCode, string(b), err
}

// tour makes all rows, in order: the last one kills a pod.
func tour(ctx context.Context, m *mesh) []Row {
	curl, intruder := m.visitor("curl"), m.visitor("intruder")
	defer curl.close()
	defer intruder.close()
	return []Row{
		one(ctx, curl, want{name: "canary", path: "/items/1", header: []string{"x-canary", "true"}, status: 200, backends: []string{"cart-v2-a"}, by: "canary"}),
		one(ctx, curl, want{name: "prefix", path: "/v2/items", status: 200, backends: []string{"cart-v2-a"}, by: "v2"}),
		split(ctx, curl),
		one(ctx, curl, want{name: "allowed", path: "/items/42", status: 200, backends: []string{"cart-v1-a", "cart-v1-b", "cart-v2-a"}}),
		one(ctx, intruder, want{name: "denied", path: "/items/42", status: 403, by: "no_allow_match"}),
		one(ctx, curl, want{name: "template", path: "/orders/7/receipt", status: 403, by: "shop/cart-receipts"}),
		one(ctx, curl, want{name: "template-miss", path: "/orders/7/receipt/copy", status: 200, backends: []string{"cart-v1-a", "cart-v1-b", "cart-v2-a"}}),
		kill(ctx, curl),
	}
}

// want is one request and what should become of it. No backends: no app may see it.
type want struct {
	name, path string
	header     []string
	status     int
	backends   []string
	by         string // must stand in what the log says decided; empty: anything
}

func one(ctx context.Context, v *visitor, w want) Row {
	r := Row{Name: w.name, Request: "GET " + w.path, Identity: "clients/" + v.as}
	if len(w.header) > 0 {
		r.Request += "  [" + w.header[0] + ": " + w.header[1] + "]"
	}
	id, status, body, err := v.get(ctx, w.name, w.path, w.header...)
	if err != nil {
		r.Problem = err.Error()
		return r
	}
	r.Status = fmt.Sprint(status)
	var apps []string
	for _, s := range v.m.seen(id) {
		apps = append(apps, s.App)
	}
	r.Backend = strings.Join(apps, ",")
	if len(apps) == 0 {
		r.Backend = "none"
	}
	line, err := v.m.waypoint.find(id)
	if err != nil {
		r.Problem = err.Error()
		return r
	}
	r.Decision, r.By = "allow", "route "+line.Route
	if status == http.StatusForbidden {
		r.Decision = "deny"
		// No policy is named where none matched: one word less, not a gap.
		r.By = strings.Join(strings.Fields("policy "+line.Policy+" "+line.Reason), " ")
	}
	switch {
	case status != w.status:
		r.Problem = fmt.Sprintf("status %d, want %d: %s", status, w.status, strings.TrimSpace(body))
	case len(w.backends) == 0 && len(apps) > 0:
		r.Problem = fmt.Sprintf("the request reached %v", apps)
	case len(w.backends) > 0 && (len(apps) != 1 || !slices.Contains(w.backends, apps[0])):
		r.Problem = fmt.Sprintf("the request reached %v, want one of %v", apps, w.backends)
	case !strings.Contains(r.By, w.by):
		r.Problem = fmt.Sprintf("decided by %q, want %q", r.By, w.by)
	case line.Code != status:
		r.Problem = fmt.Sprintf("the access log says %d, the client got %d", line.Code, status)
	}
	return r
}

// split sends many requests and counts which version the apps say they were.
func split(ctx context.Context, v *visitor) Row {
	r := Row{Name: "split", Request: fmt.Sprintf("GET /items x %d", splitRequests), Identity: "clients/" + v.as, Decision: "allow"}
	byVersion := map[string]int{}
	failed, lastID := 0, ""
	for range splitRequests {
		id, status, _, err := v.get(ctx, "split", "/items")
		if ctx.Err() != nil {
			r.Problem = ctx.Err().Error()
			return r
		}
		if err != nil || status != 200 {
			failed++
			continue
		}
		lastID = id
		for _, s := range v.m.seen(id) {
			byVersion[s.App[:len("cart-v1")]]++
		}
	}
	v1, v2 := byVersion["cart-v1"], byVersion["cart-v2"]
	r.Backend = fmt.Sprintf("cart-v1 %d, cart-v2 %d", v1, v2)
	r.Status = "200"
	if line, err := v.m.waypoint.find(lastID); err == nil {
		r.By = "route " + line.Route
	}
	switch {
	case failed > 0:
		r.Problem = fmt.Sprintf("%d requests failed", failed)
	case v1+v2 != splitRequests:
		r.Problem = fmt.Sprintf("the apps saw %d requests of %d", v1+v2, splitRequests)
	case v1 < splitLow || v1 > splitHigh:
		r.Problem = fmt.Sprintf("cart-v1 got %d of %d, want %d to %d", v1, splitRequests, splitLow, splitHigh)
	}
	return r
}

// kill sends requests on several connections and crashes a pod among them,
// which nobody announces. No request may fail.
func kill(ctx context.Context, v *visitor) Row {
	r := Row{Name: "dying pod", Request: fmt.Sprintf("GET /items x %d, cart-v1-a crashes", killRequests), Identity: "clients/" + v.as, Decision: "allow"}
	victim := v.m.pod("cart-v1-a")
	before := victim.app.Count()
	var (
		sent, ok atomic.Int64
		once     sync.Once
		wg       sync.WaitGroup
		mu       sync.Mutex
		failures []string
		reached  = map[string]int{}
		lastID   string
	)
	for range killWorkers {
		wg.Go(func() {
			for sent.Add(1) <= killRequests && ctx.Err() == nil {
				if sent.Load() > killRequests/3 {
					once.Do(victim.kill)
				}
				id, status, body, err := v.get(ctx, "kill", "/items")
				mu.Lock()
				if err != nil || status != 200 {
					failures = append(failures, fmt.Sprintf("%s: status %d %v %s", id, status, err, strings.TrimSpace(body)))
				} else {
					ok.Add(1)
					lastID = id
					for _, s := range v.m.seen(id) {
						reached[s.App]++
					}
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	r.Status = "200"
	r.Backend = fmt.Sprintf("%d answered, %d failed", ok.Load(), len(failures))
	if line, err := v.m.waypoint.find(lastID); err == nil {
		r.By = "route " + line.Route
	}
	switch {
	case len(failures) > 0:
		r.Problem = fmt.Sprintf("%d requests failed, the first: %s", len(failures), failures[0])
	case ok.Load() != killRequests:
		r.Problem = fmt.Sprintf("%d answers of %d", ok.Load(), killRequests)
	case victim.app.Count() == before:
		r.Problem = "the pod that died had served nothing: the row shows nothing"
	}
	return r
}
