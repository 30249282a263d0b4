package h2spec

import (
	"bufio"
	_ "embed"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/summerwind/h2spec/config"
	"github.com/summerwind/h2spec/generic"
	"github.com/summerwind/h2spec/hpack"
	"github.com/summerwind/h2spec/http2"
	"github.com/summerwind/h2spec/spec"

	"waypoint.dev/waypoint/hbone/h2"
)

//go:embed connect.txt
var connectExceptions string

// exceptions reads lines of "case  reason"; others start with '#'.
func exceptions(t *testing.T, text string) map[string]string {
	m := make(map[string]string)
	sc := bufio.NewScanner(strings.NewReader(text))
	for sc.Scan() {
		line := strings.TrimSpace(sc.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		id, reason, ok := strings.Cut(line, " ")
		if !ok {
			t.Fatalf("exception without a reason: %s", line)
		}
		m[id] = strings.TrimSpace(reason)
	}
	return m
}

func TestWeb(t *testing.T) { run(t, h2.Config{}, Web{}, nil) }
func TestConnect(t *testing.T) {
	run(t, h2.Config{Connect: true}, Tunnels{}, exceptions(t, connectExceptions))
}

// run runs every case, the strict ones included, against a server.
func run(t *testing.T, cfg h2.Config, h h2.Handler, except map[string]string) {
	srv, err := Start(cfg, h)
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Close()
	c := &config.Config{Host: "127.0.0.1", Port: srv.Port(), Path: "/", Timeout: time.Second, MaxHeaderLen: 4000, Strict: true}

	ran, passed := 0, 0
	seen := make(map[string]bool)
	var visit func(g *spec.TestGroup)
	visit = func(g *spec.TestGroup) {
		for i, tc := range append(append([]*spec.TestCase{}, g.Tests...), g.StrictTests...) {
			id := fmt.Sprintf("%s/%d", g.ID(), i+1)
			if err := tc.Test(c, i+1); err != nil {
				t.Fatalf("%s: cannot connect: %v", id, err)
			}
			ran++
			seen[id] = true
			reason, listed := except[id]
			switch failed := tc.Result.Failed || tc.Result.Skipped; {
			case failed && !listed:
				t.Errorf("%s %s: %v", id, tc.Desc, tc.Result.Error)
			case !failed && listed:
				t.Errorf("%s %s passes but is excepted: %s", id, tc.Desc, reason)
			case !failed:
				passed++
			}
		}
		for _, sub := range g.Groups {
			visit(sub)
		}
	}
	for _, g := range []*spec.TestGroup{generic.Spec(), http2.Spec(), hpack.Spec()} {
		visit(g)
	}
	for id := range except {
		if !seen[id] {
			t.Errorf("%s is excepted but is no case", id)
		}
	}
	t.Logf("%d cases, %d passed, %d excepted", ran, passed, len(except))
	// What v2.2.1 has; fewer would mean that the suite was not run.
	if ran < 140 {
		t.Errorf("only %d cases", ran)
	}
}
