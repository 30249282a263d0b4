package proxy

import (
	"fmt"
	"net/http"
	"testing"
)

func TestGet(t *testing.T) {
	r := newRig(t, nil)
	defer r.close()
	var got *http.Request
	r.handle(pod1, func(w http.ResponseWriter, req *http.Request) {
		got = req
		w.Header().Set("Server", "app")
		fmt.Fprint(w, "hello")
	})
	resp, body := r.do(get)
	if resp.StatusCode != 200 || body != "hello" {
		t.Fatalf("%d %q", resp.StatusCode, body)
	}
	if s := resp.Header.Get("Server"); s != "istio-envoy" {
		t.Errorf("server %q", s)
	}
	if resp.Header.Get("X-Envoy-Upstream-Service-Time") == "" || resp.Header.Get("Date") == "" {
		t.Errorf("header %v", resp.Header)
	}
	if got.Host != "cart" || got.RequestURI != "/a/b?c=d" {
		t.Errorf("backend saw %q %q", got.Host, got.RequestURI)
	}
	if id := got.Header.Get("X-Request-Id"); len(id) != 36 {
		t.Errorf("request id %q", id)
	}
	if p := got.Header.Get("X-Forwarded-Proto"); p != "http" {
		t.Errorf("x-forwarded-proto %q", p)
	}
	rec := r.last(1)
	if rec.Code != 200 || rec.Details != "via_upstream" || rec.Flags != 0 || rec.Upstream != pod1 || rec.Attempts != 1 ||
		rec.Sent != 5 || rec.UpstreamCluster != "inbound-vip|80|http|cart.shop.svc.cluster.local" {
		t.Errorf("record %+v", rec)
	}
}
