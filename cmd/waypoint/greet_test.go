package main

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestVersionAt(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/version" {
			http.NotFound(w, r)
			return
		}
		_, _ = io.WriteString(w, "1.31.0-abcdef-Clean\n"+strings.Repeat(" ", 1000))
	}))
	defer s.Close()
	if v, err := versionAt(t.Context(), s.URL+"/version"); err != nil || v != "1.31.0-abcdef-Clean" {
		t.Errorf("%q, %v", v, err)
	}
	if _, err := versionAt(t.Context(), s.URL+"/other"); err == nil {
		t.Error("404 is a version")
	}
}

func TestJudge(t *testing.T) {
	for version, want := range map[string]string{
		"1.31-unknown-Clean": "connected", "1.28.4": "connected", "1.99.0": "outside the range", "1.20.0": "outside the range", "unknown": "connected",
	} {
		var b bytes.Buffer
		judge(version, "istiod", slog.New(slog.NewTextHandler(&b, nil)))
		if !strings.Contains(b.String(), want) {
			t.Errorf("%s: %s", version, b.String())
		}
	}
}
