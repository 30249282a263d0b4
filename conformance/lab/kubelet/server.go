package kubelet

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"syscall"
	"time"

	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	utilexec "k8s.io/utils/exec"

	"waypoint.dev/waypoint/conformance/lab/sandbox"
)

// Limits of one exec; the API server's client sets its own, shorter ones.
const (
	execIdle    = time.Hour
	execStreams = 30 * time.Second
)

// serve answers what the API server passes on.
func (k *Kubelet) serve() error {
	mux := http.NewServeMux()
	mux.HandleFunc("/exec/{namespace}/{pod}/{container}", k.serveExec)
	mux.HandleFunc("GET /containerLogs/{namespace}/{pod}/{container}", k.serveLogs)
	ln, err := net.Listen("tcp", fmt.Sprintf("%s:%d", sandbox.NodeIP, Port))
	if err != nil {
		return err
	}
	k.server = &http.Server{
		Handler: mux, ReadHeaderTimeout: execStreams,
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{k.cfg.Certificate}},
		// An upgraded connection needs HTTP/1.1.
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){},
	}
	k.wg.Go(func() { _ = k.server.ServeTLS(ln, "", "") })
	return nil
}

func (k *Kubelet) target(r *http.Request) (*container, error) {
	w := k.find(r.PathValue("namespace"), r.PathValue("pod"))
	if w == nil {
		return nil, fmt.Errorf("pod %s/%s does not run here", r.PathValue("namespace"), r.PathValue("pod"))
	}
	return w.container(r.PathValue("container"))
}

func (k *Kubelet) serveExec(w http.ResponseWriter, r *http.Request) {
	c, err := k.target(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	opts, err := remotecommand.NewOptions(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	remotecommand.ServeExec(w, r, executor{c}, c.w.name, string(c.w.uid), c.spec.Name,
		r.URL.Query()["command"], opts, execIdle, execStreams, remotecommand.SupportedStreamingProtocols)
}

// executor runs commands of the streaming server in one container.
type executor struct{ c *container }

// ExecInContainer implements remotecommand.Executor.
func (e executor) ExecInContainer(ctx context.Context, _, _, _ string, cmd []string, in io.Reader, out, errs io.WriteCloser, _ bool, _ <-chan remotecommand.TerminalSize, _ time.Duration) error {
	s := sandbox.Streams{In: in}
	// A nil WriteCloser in an io.Writer would not be nil.
	if out != nil {
		s.Out = out
	}
	if errs != nil {
		s.Err = errs
	}
	code, err := e.c.exec(ctx, cmd, s)
	if err == nil && code != 0 {
		err = utilexec.CodeExitError{Err: fmt.Errorf("exit code %d", code), Code: code}
	}
	return err
}

func (k *Kubelet) serveLogs(w http.ResponseWriter, r *http.Request) {
	c, err := k.target(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "text/plain")
	http.ServeFile(w, r, c.logFile())
}

// Exec runs a command in a pod's container without the API server and returns its exit
// code. The only container is meant by "".
func (k *Kubelet) Exec(ctx context.Context, namespace, pod, name string, args []string, s sandbox.Streams) (int, error) {
	w := k.find(namespace, pod)
	if w == nil {
		return 0, fmt.Errorf("kubelet: pod %s/%s does not run here", namespace, pod)
	}
	c, err := w.container(name)
	if err != nil {
		return 0, fmt.Errorf("kubelet: pod %s/%s: %w", namespace, pod, err)
	}
	return c.exec(ctx, args, s)
}

// Signal sends a signal to the processes of a pod's container; the only container is meant
// by "". One that ends by it is started again.
func (k *Kubelet) Signal(namespace, pod, name string, sig syscall.Signal) error {
	w := k.find(namespace, pod)
	if w == nil {
		return fmt.Errorf("kubelet: pod %s/%s does not run here", namespace, pod)
	}
	c, err := w.container(name)
	if err != nil {
		return fmt.Errorf("kubelet: pod %s/%s: %w", namespace, pod, err)
	}
	p := c.process()
	if p == nil {
		return fmt.Errorf("kubelet: pod %s/%s: %w", namespace, pod, sandbox.ErrEnded)
	}
	p.Signal(sig)
	return nil
}

// Net returns the network of a running pod, for clients that are to be one of its
// processes; nil if it does not run here.
func (k *Kubelet) Net(namespace, pod string) *sandbox.Net {
	w := k.find(namespace, pod)
	if w == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.waiting != "" || len(w.containers) == 0 {
		return nil
	}
	return w.net
}
