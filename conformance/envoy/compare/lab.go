package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"waypoint.dev/waypoint/conformance/envoy"
	"waypoint.dev/waypoint/conformance/load"
	"waypoint.dev/waypoint/identity"
)

// pod is where the backend process is. Generated worlds have their subjects' pod there.
const pod = envoy.SubjectPod + ":15008"

type lab struct {
	dir             string
	client          identity.Source
	authority, host string
	backend         *exec.Cmd
	envoy, waypoint *proxy
	stop            []func()
}

// proxy is one process under measurement.
type proxy struct {
	name string
	addr netip.AddrPort
	pid  int
}

// world is one service with a route and a policy: what a user has at least.
func world() (*envoy.World, *envoy.Subject) {
	s := &envoy.Subject{Name: "echo", Norm: "BASE", Routes: []envoy.RouteRule{
		{Name: "admin", Matches: []envoy.RouteMatch{{PathKind: "PathPrefix", Path: "/admin"}}, Backends: []envoy.WeightedBackend{{Name: "echo", Weight: 1}}},
		{Name: "rest", Backends: []envoy.WeightedBackend{{Name: "echo", Weight: 1}}},
	}, Policies: []envoy.Policy{{Name: "clients", Action: "ALLOW", Rules: []envoy.PolicyRule{
		{From: []envoy.Fields{{"principals": {"cluster.local/ns/compare/sa/client"}}}},
	}}}}
	return &envoy.World{Namespace: "compare", Subjects: []*envoy.Subject{s}}, s
}

func newLab(ctx context.Context) (l *lab, err error) {
	l = &lab{}
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	if l.dir, err = os.MkdirTemp("", "compare-"); err != nil {
		return l, err
	}
	l.stop = append(l.stop, func() { os.RemoveAll(l.dir) })
	w, s := world()
	l.authority, l.host = s.Authority(), s.Host(w.Namespace)
	ca, err := identity.NewCA("cluster.local")
	if err != nil {
		return l, err
	}
	l.client = ca.Source(w.Namespace, "client", time.Hour)
	l.stop = append(l.stop, func() { l.client.Close() })
	for _, sa := range []string{"subject", "waypoint"} {
		if err := writeIdentity(ca, w.Namespace, sa, filepath.Join(l.dir, sa)); err != nil {
			return l, err
		}
	}
	if err := l.startBackend(); err != nil {
		return l, err
	}
	id := filepath.Join(l.dir, "waypoint")
	_, here, _, _ := runtime.Caller(0)
	base, err := envoy.Load(filepath.Join(filepath.Dir(here), "..", "testdata", "base"))
	if err != nil {
		return l, err
	}
	boot, err := envoy.Stock(w.Resources(base), envoy.StockOptions{Dir: id, Address: "127.0.0.1", GenerateID: true})
	if err != nil {
		return l, err
	}
	e, err := envoy.Start(ctx, boot, id)
	if err != nil {
		return l, err
	}
	l.stop = append(l.stop, e.Close)
	l.envoy = &proxy{"envoy", e.Addr, e.Pid}
	conf := filepath.Join(l.dir, "config")
	if err := os.Mkdir(conf, 0o755); err != nil {
		return l, err
	}
	if err := os.WriteFile(filepath.Join(conf, "world.yaml"), w.Manifests("BASE"), 0o644); err != nil {
		return l, err
	}
	return l, l.startWaypoint(conf, id)
}

func (l *lab) close() {
	for _, f := range l.stop {
		defer f() // last first
	}
}

func writeIdentity(ca *identity.CA, ns, sa, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	svid, err := ca.Issue(ns, sa, time.Hour)
	if err != nil {
		return err
	}
	chain, key, err := svid.PEM()
	if err != nil {
		return err
	}
	for name, b := range map[string][]byte{"cert.pem": chain, "key.pem": key, "roots.pem": ca.Bundle().PEM} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			return err
		}
	}
	return nil
}

func (l *lab) startBackend() error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(exe, "-backend", filepath.Join(l.dir, "subject"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	l.stop = append(l.stop, func() { cmd.Process.Kill(); cmd.Wait() })
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		return fmt.Errorf("the backend did not start: %w", err)
	}
	return nil
}

func serveBackend(ctx context.Context, dir string) error {
	src, err := identity.FromFiles(dir+"/cert.pem", dir+"/key.pem", dir+"/roots.pem", []string{"cluster.local"}, nil)
	if err != nil {
		return err
	}
	b, err := load.NewBackend(netip.MustParseAddrPort(pod), src)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	<-ctx.Done()
	b.Close()
	return nil
}

func (l *lab) startWaypoint(conf, id string) error {
	cmd := exec.Command(*binary, "run", "--config", conf, "--cert", id+"/cert.pem", "--key", id+"/key.pem", "--roots", id+"/roots.pem",
		"--hbone-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0", "--metrics-addr", "127.0.0.1:0", "--ready-addr", "127.0.0.1:0", "--stats-addr", "", "--log-format", "json")
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	l.stop = append(l.stop, func() { cmd.Process.Kill(); cmd.Wait() })
	var said strings.Builder
	for s := bufio.NewScanner(stderr); s.Scan(); {
		var line struct{ Msg, HBONE string }
		if json.Unmarshal(s.Bytes(), &line) == nil && line.Msg == "serving" {
			addr, err := netip.ParseAddrPort(line.HBONE)
			l.waypoint = &proxy{"waypoint", addr, cmd.Process.Pid}
			go io.Copy(io.Discard, stderr)
			return err
		}
		said.WriteString(s.Text() + "\n")
	}
	return fmt.Errorf("%s ended before it served:\n%s", *binary, said.String())
}

// cpu is user plus system time so far.
func (p *proxy) cpu() time.Duration {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.pid))
	if err != nil {
		return 0
	}
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	user, _ := strconv.ParseInt(f[11], 10, 64)
	sys, _ := strconv.ParseInt(f[12], 10, 64)
	return time.Duration(user+sys) * 10 * time.Millisecond // USER_HZ is 100
}

func (p *proxy) rss() int64 {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.pid))
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kb << 10
		}
	}
	return 0
}

func cpuModel() string {
	b, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(b)) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == "model name" {
			return strings.TrimSpace(v)
		}
	}
	return "unknown CPU"
}
