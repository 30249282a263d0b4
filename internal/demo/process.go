package demo

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
	"sync"
	"syscall"
	"time"
)

// process is the waypoint, run as users run it.
type process struct {
	cmd    *exec.Cmd
	hbone  netip.AddrPort
	admin  string
	log    string // access log file
	exited chan error

	mu   sync.Mutex
	tail bytes.Buffer // guarded by mu: what it said, for a failure's message
}

// startProcess runs `waypoint run` and waits until it serves.
func startProcess(ctx context.Context, o Options, config, dir string) (*process, error) {
	p := &process{log: filepath.Join(dir, "access.log"), exited: make(chan error, 1)}
	p.cmd = exec.Command(o.Waypoint, "run", "--config", config,
		"--cert", filepath.Join(dir, "cert.pem"), "--key", filepath.Join(dir, "key.pem"), "--roots", filepath.Join(dir, "roots.pem"),
		"--hbone-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0", "--metrics-addr", "127.0.0.1:0", "--ready-addr", "127.0.0.1:0", "--stats-addr", "",
		"--drain-delay", "0s", "--log-format", "json", "--access-log", p.log, "--access-log-format", "json")
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("demo: start the waypoint: %w", err)
	}
	serving := make(chan error, 1)
	read := make(chan struct{})
	go func() { defer close(read); p.read(stderr, serving) }()
	go func() { <-read; p.exited <- p.cmd.Wait() }()
	select {
	case err := <-serving:
		if err != nil {
			p.stop()
			return nil, err
		}
		return p, nil
	case err := <-p.exited:
		p.exited <- err
		return nil, fmt.Errorf("demo: the waypoint ended before it served (%v):\n%s", p.cmd.ProcessState, p.said())
	case <-time.After(20 * time.Second):
		p.stop()
		return nil, fmt.Errorf("demo: the waypoint is not serving after 20 s:\n%s", p.said())
	case <-ctx.Done():
		p.stop()
		return nil, ctx.Err()
	}
}

// read follows the log until the line that names the addresses, and beyond.
func (p *process) read(r io.Reader, serving chan<- error) {
	s := bufio.NewScanner(r)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		p.mu.Lock()
		if p.tail.Len() < 64<<10 {
			p.tail.Write(s.Bytes())
			p.tail.WriteByte('\n')
		}
		p.mu.Unlock()
		var line struct{ Msg, HBONE, Admin string }
		if json.Unmarshal(s.Bytes(), &line) != nil || line.Msg != "serving" {
			continue
		}
		addr, err := netip.ParseAddrPort(line.HBONE)
		if err != nil {
			err = fmt.Errorf("demo: the waypoint serves at %q: %w", line.HBONE, err)
		}
		p.hbone, p.admin = addr, line.Admin
		serving <- err
	}
}

func (p *process) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.tail.String()
}

// stop asks the waypoint to drain and waits for it.
func (p *process) stop() error {
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-p.exited:
		p.exited <- err
		if err != nil {
			return fmt.Errorf("demo: the waypoint's exit: %w\n%s", err, p.said())
		}
		return nil
	case <-time.After(20 * time.Second):
		p.cmd.Process.Kill()
		return fmt.Errorf("demo: the waypoint did not stop within 20 s:\n%s", p.said())
	}
}

// logged is one line of the waypoint's access log.
type logged struct {
	ID     string `json:"request_id"`
	Code   int    `json:"response_code"`
	Flags  string `json:"response_flags"`
	Route  string `json:"route_name"`
	Policy string `json:"policy"`
	Rule   string `json:"policy_rule"`
	Reason string `json:"policy_reason"`
}

// find waits for the access-log line of a request.
func (p *process) find(id string) (logged, error) {
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		b, err := os.ReadFile(p.log)
		if err != nil && !os.IsNotExist(err) {
			return logged{}, err
		}
		for line := range bytes.Lines(b) {
			var l logged
			if bytes.Contains(line, []byte(id)) && json.Unmarshal(line, &l) == nil && l.ID == id {
				return l, nil
			}
		}
		if time.Now().After(deadline) {
			return logged{}, fmt.Errorf("demo: request %s is not in the access log", id)
		}
	}
}
