package lab

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"waypoint.dev/waypoint/conformance/lab/sandbox"
)

// box is the process of the control plane.
type box struct {
	mu   sync.Mutex
	proc *os.Process   // guarded by mu: nil while there is none
	end  chan struct{} // guarded by mu: closed when proc has ended
}

func (l *Lab) boxDir() string { return filepath.Join(l.opts.Dir, "box") }

// StartControlPlane runs etcd, the API server and the controller manager, on the data that
// an earlier run left, and waits until they serve. There must be none.
func (l *Lab) StartControlPlane(ctx context.Context) error {
	logs, err := os.OpenFile(filepath.Join(l.opts.Dir, "logs", "control-plane.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer logs.Close()
	cmd := exec.Command(l.opts.Binaries.Box, "-dir", l.boxDir(), "-advertise", sandbox.NodeIP, "-services", services)
	cmd.Stderr = logs
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	end := make(chan struct{})
	started, ready := make(chan error, 1), make(chan error, 1)
	go func() {
		// Pdeathsig follows the thread that started the child.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(end)
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		r := bufio.NewReader(out)
		line, err := r.ReadString('\n')
		if err == nil && strings.TrimSpace(line) != "ready" {
			err = fmt.Errorf("it says %q", line)
		}
		ready <- err
		_, _ = io.Copy(io.Discard, r)
		_ = cmd.Wait()
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("control plane: %w", err)
	}
	l.box.mu.Lock()
	l.box.proc, l.box.end = cmd.Process, end
	l.box.mu.Unlock()
	select {
	case err := <-ready:
		if err != nil {
			return fmt.Errorf("control plane: %w (see %s)", err, logs.Name())
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(startLimit):
		return errors.New("control plane: not ready within " + startLimit.String())
	}
}

// StopControlPlane kills it, as a machine that fails does, and returns when it has ended.
// Its data stays. SIGTERM would not do: without its etcd an API server hangs for minutes.
func (l *Lab) StopControlPlane() {
	l.box.mu.Lock()
	defer l.box.mu.Unlock()
	if l.box.proc == nil {
		return
	}
	_ = syscall.Kill(-l.box.proc.Pid, syscall.SIGKILL)
	<-l.box.end
	l.box.proc = nil
}

// writeBoxFiles writes the keys and tokens that outlive a restart of the control plane.
func (l *Lab) writeBoxFiles() error {
	dir := l.boxDir()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	pub, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return err
	}
	l.Kubeconfig = filepath.Join(dir, "kubeconfig")
	for name, data := range map[string][]byte{
		"sa.key":     pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}),
		"sa.pub":     pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: pub}),
		"tokens.csv": []byte(adminToken + `,admin,admin,"system:masters"` + "\n"),
		"kubeconfig": fmt.Appendf(nil, kubeconfig, apiPort, adminToken),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// kubeconfig trusts whatever certificate the API server made for itself: nobody else can
// be in the node's network.
const kubeconfig = `apiVersion: v1
kind: Config
clusters: [{name: lab, cluster: {server: "https://127.0.0.1:%d", insecure-skip-tls-verify: true}}]
users: [{name: admin, user: {token: %s}}]
contexts: [{name: lab, context: {cluster: lab, user: admin}}]
current-context: lab
`
