package envoy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// ErrNotInstalled says how to get Envoy.
var ErrNotInstalled = errors.New("envoy is not installed: run `make envoy` at the top of the repository")

// Binary finds the Envoy that `make envoy` installed.
func Binary() (string, error) {
	_, here, _, _ := runtime.Caller(0)
	path := filepath.Join(filepath.Dir(here), "..", ".venv", "bin", "envoy")
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return "", ErrNotInstalled
	}
	return path, nil
}

// Process is a running Envoy.
type Process struct {
	Addr   netip.AddrPort // of connect_terminate
	Direct netip.AddrPort // of the listener for clients whose address shall be seen, if there is one
	Admin  netip.AddrPort
	Pid    int

	cmd  *exec.Cmd
	log  string
	done chan struct{}
}

// Start runs Envoy with one worker in dir, and waits until it serves.
func Start(ctx context.Context, boot Object, dir string) (*Process, error) {
	bin, err := Binary()
	if err != nil {
		return nil, err
	}
	if err := mustBeStock(boot); err != nil {
		return nil, err
	}
	b, err := json.MarshalIndent(boot, "", " ")
	if err != nil {
		return nil, err
	}
	conf, admin, log := filepath.Join(dir, "bootstrap.json"), filepath.Join(dir, "admin.addr"), filepath.Join(dir, "envoy.log")
	if err := os.WriteFile(conf, b, 0o600); err != nil {
		return nil, err
	}
	p := &Process{log: log, done: make(chan struct{})}
	p.cmd = exec.Command(bin, "-c", conf, "--concurrency", "1", "--use-dynamic-base-id", "--disable-hot-restart",
		"--admin-address-path", admin, "--log-level", "warning", "--log-path", log)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	p.Pid = p.cmd.Process.Pid
	go func() {
		defer close(p.done)
		p.cmd.Wait()
	}()
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		if err := p.ready(ctx, admin); err == nil {
			return p, nil
		}
		select {
		case <-p.done:
			return nil, fmt.Errorf("envoy ended before it served: %s", p.tail())
		case <-ctx.Done():
			p.Close()
			return nil, fmt.Errorf("envoy does not serve: %w: %s", context.Cause(ctx), p.tail())
		case <-time.After(20 * time.Millisecond): // polls a process, which tells no one when it serves
		}
	}
}

// ready learns the ports once the server is live.
func (p *Process) ready(ctx context.Context, file string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if p.Admin, err = netip.ParseAddrPort(strings.TrimSpace(string(b))); err != nil {
		return err
	}
	if s, err := p.Get(ctx, "/ready"); err != nil || !strings.HasPrefix(s, "LIVE") {
		return fmt.Errorf("envoy is not live: %s %w", s, err)
	}
	s, err := p.Get(ctx, "/listeners?format=json")
	if err != nil {
		return err
	}
	var l struct {
		Statuses []struct {
			Name    string
			Address struct {
				Socket struct {
					Address string
					Port    uint16 `json:"port_value"`
				} `json:"socket_address"`
			} `json:"local_address"`
		} `json:"listener_statuses"`
	}
	if err := json.Unmarshal([]byte(s), &l); err != nil {
		return err
	}
	for _, s := range l.Statuses {
		into := map[string]*netip.AddrPort{"connect_terminate": &p.Addr, directName: &p.Direct}[s.Name]
		if into == nil {
			continue
		}
		a, err := netip.ParseAddr(s.Address.Socket.Address)
		if err != nil {
			return err
		}
		*into = netip.AddrPortFrom(a, s.Address.Socket.Port)
	}
	if !p.Addr.IsValid() {
		return errors.New("envoy has no connect_terminate")
	}
	return nil
}

// Get reads a page of the admin interface.
func (p *Process) Get(ctx context.Context, path string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, "GET", "http://"+p.Admin.String()+path, nil)
	if err != nil {
		return "", err
	}
	req.Close = true
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return string(b), err
}

func (p *Process) tail() string {
	b, _ := os.ReadFile(p.log)
	return string(b[max(0, len(b)-4000):])
}

// Close kills the process.
func (p *Process) Close() {
	p.cmd.Process.Kill()
	<-p.done
}
