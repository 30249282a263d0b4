package main

import (
	"strings"
	"testing"
	"time"
)

func TestProxyStarts(t *testing.T) {
	r := newMeshRig(t, "01-basic", time.Hour)
	for range 10 {
		if code, body, _ := r.get("/items"); code != 200 {
			t.Fatalf("%d %s", code, body)
		}
	}
	if code, _, _ := r.fetch(r.ready + "/healthz/ready"); code != 200 {
		t.Errorf("ready: %d", code)
	}
	if n := strings.Count(r.said(), "flags that mean nothing here"); n != 1 || !strings.Contains(r.said(), "--outlierLogPath") {
		t.Errorf("unknown flags were warned of %d times", n)
	}
	if rs := r.istiod.Refusals(); len(rs) > 0 {
		t.Errorf("refused: %v", rs)
	}
}
