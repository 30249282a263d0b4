package measure

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"waypoint.dev/waypoint/conformance/load"
	"waypoint.dev/waypoint/identity"
)

// Waypoint is a running waypoint.
type Waypoint struct {
	PID
	HBONE netip.AddrPort
	Admin string // host:port

	cmd *exec.Cmd
}

// StartWaypoint runs the binary bin with the manifests of config and the identity that
// [identity.CA.WriteFiles] has put into id, on loopback ports that the kernel chooses,
// and returns when it serves. env is added to this process's environment, flags to its
// command line.
func StartWaypoint(bin, config, id string, env []string, flags ...string) (*Waypoint, error) {
	w := &Waypoint{cmd: exec.Command(bin, append([]string{"run", "--config", config,
		"--cert", id + "/cert.pem", "--key", id + "/key.pem", "--roots", id + "/roots.pem",
		"--hbone-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0", "--metrics-addr", "127.0.0.1:0",
		"--ready-addr", "127.0.0.1:0", "--stats-addr", "", "--log-format", "json"}, flags...)...)}
	w.cmd.Env = append(os.Environ(), env...)
	w.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stderr, err := w.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := w.cmd.Start(); err != nil {
		return nil, err
	}
	w.PID = PID(w.cmd.Process.Pid)
	var said strings.Builder
	for s := bufio.NewScanner(stderr); s.Scan(); {
		var line struct{ Msg, HBONE, Admin string }
		if json.Unmarshal(s.Bytes(), &line) == nil && line.Msg == "serving" {
			w.Admin = line.Admin
			if w.HBONE, err = netip.ParseAddrPort(line.HBONE); err != nil {
				w.End()
				return nil, err
			}
			go io.Copy(io.Discard, stderr)
			return w, nil
		}
		said.WriteString(s.Text() + "\n")
	}
	w.End()
	return nil, fmt.Errorf("%s ended before it served:\n%s", bin, said.String())
}

// End kills the process, if it still runs.
func (w *Waypoint) End() { end(w.cmd) }

func end(cmd *exec.Cmd) {
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}

// Mallocs is how many objects the process has allocated so far.
func (w *Waypoint) Mallocs() int64 {
	res, err := http.Get("http://" + w.Admin + "/memory")
	if err != nil {
		return 0
	}
	defer res.Body.Close()
	var m struct{ Mallocs int64 }
	json.NewDecoder(res.Body).Decode(&m)
	return m.Mallocs
}

// Profile writes a CPU profile of the next span to file.
func (w *Waypoint) Profile(file string, span time.Duration) error {
	res, err := http.Get(fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", w.Admin, int(span.Seconds())))
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

// Backend is a pod that answers inside its tunnels, as a process of its own.
type Backend struct {
	PID
	cmd *exec.Cmd
}

// StartBackend runs this very binary with args, which has to call [ServeBackend], and
// returns when that serves.
func StartBackend(args ...string) (*Backend, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(exe, args...)
	if _, err := cmd.StdinPipe(); err != nil { // held open for as long as we live
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		end(cmd)
		return nil, fmt.Errorf("the backend did not start: %w", err)
	}
	return &Backend{PID(cmd.Process.Pid), cmd}, nil
}

// End kills the process, if it still runs.
func (b *Backend) End() { end(b.cmd) }

// ServeBackend is what a process of [StartBackend] does, until who started it ends: it
// answers at addr with the identity in dir.
func ServeBackend(dir, addr, trustDomain string) error {
	src, err := identity.FromFiles(dir+"/cert.pem", dir+"/key.pem", dir+"/roots.pem", []string{trustDomain}, nil)
	if err != nil {
		return err
	}
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return err
	}
	b, err := load.NewBackend(to, src)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	_, err = io.Copy(io.Discard, os.Stdin)
	b.Close()
	return err
}
