package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"waypoint.dev/waypoint/identity"
)

const (
	trustDomain = "cluster.local"
	vip         = "10.96.4.1:80"
	ttl         = 24 * time.Hour
)

// podIP is a loopback address of this run's own, so that runs do not meet.
var podIP = fmt.Sprintf("127.4.%d.%d", os.Getpid()>>8&0xff, os.Getpid()&0xff)

// manifests are one service with a route and a policy: what a user has at least.
var manifests = `
apiVersion: v1
kind: Namespace
metadata: {name: bench, labels: {istio.io/dataplane-mode: ambient, istio.io/use-waypoint: waypoint}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: waypoint, namespace: bench, labels: {istio.io/waypoint-for: service}}
spec: {gatewayClassName: istio-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}
---
apiVersion: v1
kind: Pod
metadata: {name: echo-1, namespace: bench, labels: {app: echo}}
spec: {serviceAccountName: echo, containers: [{name: app, image: echo}]}
status: {phase: Running, podIP: ` + podIP + `, podIPs: [{ip: ` + podIP + `}], conditions: [{type: Ready, status: "True"}]}
---
apiVersion: v1
kind: Service
metadata: {name: echo, namespace: bench}
spec: {clusterIP: 10.96.4.1, clusterIPs: [10.96.4.1], selector: {app: echo}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: echo-1, namespace: bench, labels: {kubernetes.io/service-name: echo}}
addressType: IPv4
ports: [{name: http, port: 8080, protocol: TCP}]
endpoints: [{addresses: [` + podIP + `], conditions: {ready: true}, targetRef: {kind: Pod, name: echo-1, namespace: bench}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: echo, namespace: bench}
spec:
  parentRefs: [{group: "", kind: Service, name: echo, port: 80}]
  rules:
  - matches: [{path: {type: PathPrefix, value: /admin}}]
    backendRefs: [{name: echo, port: 80}]
  - backendRefs: [{name: echo, port: 80}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: clients, namespace: bench}
spec:
  targetRefs: [{group: "", kind: Service, name: echo}]
  action: ALLOW
  rules: [{from: [{source: {principals: [` + trustDomain + `/ns/bench/sa/client]}}]}]
`

type lab struct {
	dir      string
	client   identity.Source
	backend  *exec.Cmd
	waypoint *process
}

func writeIdentity(ca *identity.CA, dir, sa string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	svid, err := ca.Issue("bench", sa, ttl)
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

// start brings up the backend and the waypoint as processes, the latter with
// further flags.
func start(ctx context.Context, waypoint string, flags ...string) (l *lab, err error) {
	dir, err := os.MkdirTemp("", "waypoint-bench-")
	if err != nil {
		return nil, err
	}
	l = &lab{dir: dir}
	defer func(made *lab) {
		if err != nil {
			made.close()
		}
	}(l)
	ca, err := identity.NewCA(trustDomain)
	if err != nil {
		return nil, err
	}
	l.client = ca.Source("bench", "client", ttl)
	for _, sa := range []string{"echo", "waypoint"} {
		if err := writeIdentity(ca, filepath.Join(dir, sa), sa); err != nil {
			return nil, err
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, "config"), 0o755); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "config", "bench.yaml"), []byte(manifests), 0o644); err != nil {
		return nil, err
	}
	exe, err := self()
	if err != nil {
		return nil, err
	}
	l.backend = exec.Command(exe, "-backend", filepath.Join(dir, "echo"), "-pod", podIP)
	if _, err := l.backend.StdinPipe(); err != nil { // held open for as long as we live
		return nil, err
	}
	out, err := l.backend.StdoutPipe()
	if err != nil {
		return nil, err
	}
	l.backend.Stderr = os.Stderr
	l.backend.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := l.backend.Start(); err != nil {
		return nil, err
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		return nil, fmt.Errorf("the backend did not start: %w", err)
	}
	l.waypoint, err = l.another(waypoint, flags...)
	return l, err
}

// another starts a waypoint before the backend; whoever asks for a second one ends it.
func (l *lab) another(waypoint string, flags ...string) (*process, error) {
	id := filepath.Join(l.dir, "waypoint")
	return startProcess(waypoint, append([]string{"run", "--config", filepath.Join(l.dir, "config"),
		"--cert", id + "/cert.pem", "--key", id + "/key.pem", "--roots", id + "/roots.pem",
		"--hbone-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0", "--metrics-addr", "127.0.0.1:0", "--ready-addr", "127.0.0.1:0", "--stats-addr", "", "--log-format", "json"}, flags...)...)
}

func (l *lab) close() {
	if l.waypoint != nil {
		l.waypoint.end()
	}
	if l.backend != nil && l.backend.Process != nil {
		l.backend.Process.Kill()
		l.backend.Wait()
	}
	if l.client != nil {
		l.client.Close()
	}
	os.RemoveAll(l.dir)
}

// process is the waypoint under measurement.
type process struct {
	cmd   *exec.Cmd
	hbone netip.AddrPort
	admin string
}

func startProcess(bin string, args ...string) (*process, error) {
	p := &process{cmd: exec.Command(bin, args...)}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	var said strings.Builder
	s := bufio.NewScanner(stderr)
	for s.Scan() {
		var line struct{ Msg, HBONE, Admin string }
		if json.Unmarshal(s.Bytes(), &line) == nil && line.Msg == "serving" {
			if p.hbone, err = netip.ParseAddrPort(line.HBONE); err != nil {
				return nil, err
			}
			p.admin = line.Admin
			go io.Copy(io.Discard, stderr)
			return p, nil
		}
		said.Write(s.Bytes())
		said.WriteByte('\n')
	}
	return nil, fmt.Errorf("%s ended before it served:\n%s", bin, said.String())
}

// end kills the process, if it still runs.
func (p *process) end() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

// cpu is user plus system time so far.
func (p *process) cpu() time.Duration {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	user, _ := strconv.ParseInt(f[11], 10, 64)
	sys, _ := strconv.ParseInt(f[12], 10, 64)
	return time.Duration(user+sys) * 10 * time.Millisecond // USER_HZ is 100
}

// ran is for how long the threads that it has were on a processor, to the nanosecond.
func (p *process) ran() (d time.Duration) {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", p.cmd.Process.Pid))
	for _, f := range tasks {
		b, _ := os.ReadFile(f)
		if s := strings.Fields(string(b)); len(s) > 0 {
			n, _ := strconv.ParseInt(s[0], 10, 64)
			d += time.Duration(n)
		}
	}
	return d
}

// rss is what the process has in memory, in bytes, pages of its binary included.
func (p *process) rss() int64 { return p.status("VmRSS:") }

// anon is what of rss is the process's own: heap, stacks, and what it wrote to.
func (p *process) anon() int64 { return p.status("RssAnon:") }

// status is a size of /proc/PID/status, in bytes.
func (p *process) status(field string) int64 {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, field); ok {
			kb, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kb << 10
		}
	}
	return 0
}

// calls are the read and write system calls so far.
func (p *process) calls() (reads, writes int64) {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/io", p.cmd.Process.Pid))
	for line := range strings.Lines(string(b)) {
		if n, ok := strings.CutPrefix(line, "syscr: "); ok {
			reads, _ = strconv.ParseInt(strings.TrimSpace(n), 10, 64)
		} else if n, ok := strings.CutPrefix(line, "syscw: "); ok {
			writes, _ = strconv.ParseInt(strings.TrimSpace(n), 10, 64)
		}
	}
	return reads, writes
}

// mallocs is how many objects the process has allocated so far.
func (p *process) mallocs() int64 {
	res, err := http.Get("http://" + p.admin + "/memory")
	if err != nil {
		return 0
	}
	defer res.Body.Close()
	var m struct{ Mallocs int64 }
	json.NewDecoder(res.Body).Decode(&m)
	return m.Mallocs
}

// profile writes a CPU profile of the next span to file.
func (p *process) profile(file string, span time.Duration) error {
	res, err := http.Get(fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", p.admin, int(span.Seconds())))
	if err != nil {
		return err
	}
	defer res.Body.Close()
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, res.Body)
	return errors.Join(err, f.Close())
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
