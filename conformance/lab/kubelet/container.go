package kubelet

import (
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"waypoint.dev/waypoint/conformance/lab/sandbox"
)

// container is one container of a pod and what restarts it.
type container struct {
	// Fixed after newContainer.
	w    *worker
	spec *corev1.Container
	env  []string
	base sandbox.Spec // but for the root and the output, which each start makes

	wg     sync.WaitGroup
	cancel context.CancelFunc // set by launch
	ready  atomic.Bool

	mu       sync.Mutex
	proc     *sandbox.Process      // guarded by mu: nil between two starts
	state    corev1.ContainerState // guarded by mu
	last     corev1.ContainerState // guarded by mu
	restarts int32                 // guarded by mu
}

func newContainer(w *worker, pod *corev1.Pod, spec *corev1.Container) (*container, error) {
	c := &container{w: w, spec: spec}
	img, ok := w.k.image(spec.Image)
	if !ok {
		return nil, fmt.Errorf("image %q is not known to the lab", spec.Image)
	}
	env, err := w.environment(pod, spec)
	if err != nil {
		return nil, fmt.Errorf("container %s: %w", spec.Name, err)
	}
	c.env = append(c.env, img.Env...)
	vars := map[string]string{}
	for _, e := range env {
		vars[e.Name] = e.Value
		c.env = append(c.env, e.Name+"="+e.Value)
	}
	args := spec.Command
	if len(args) == 0 {
		args = img.Entrypoint
	}
	args = append(append(append([]string(nil), args...), spec.Args...), img.Args...)
	for i := range args {
		args[i] = expand(args[i], vars)
	}
	c.base = sandbox.Spec{
		Hostname: pod.Name, Dir: spec.WorkingDir, Env: c.env,
		Files: w.files(pod),
	}
	for to, from := range img.Files {
		c.base.Mounts = append(c.base.Mounts, sandbox.Mount{From: from, To: to, ReadOnly: true})
	}
	if c.base.Args, err = command(args, img); err != nil {
		return nil, fmt.Errorf("container %s: %w", spec.Name, err)
	}
	for _, m := range spec.VolumeMounts {
		from, err := w.volumes.path(m.Name)
		if err != nil {
			return nil, fmt.Errorf("container %s: %w", spec.Name, err)
		}
		c.base.Mounts = append(c.base.Mounts, sandbox.Mount{
			From: filepath.Join(from, m.SubPath), To: m.MountPath, ReadOnly: m.ReadOnly,
		})
	}
	c.base.UID, c.base.GID, c.base.Groups = user(pod, spec, img)
	return c, nil
}

// searchPath is where commands without a slash are looked for.
var searchPath = []string{"/usr/local/bin", "/usr/bin", "/bin"}

// command makes the first argument absolute: nothing searches inside the container.
func command(args []string, img Image) ([]string, error) {
	if len(args) == 0 {
		return nil, fmt.Errorf("neither the container nor its image has a command")
	}
	if strings.HasPrefix(args[0], "/") {
		return args, nil
	}
	for _, d := range searchPath {
		if p := path.Join(d, args[0]); img.Files[p] != "" {
			return append([]string{p}, args[1:]...), nil
		}
	}
	return nil, fmt.Errorf("executable %q is not in the image", args[0])
}

// user resolves the security contexts.
func user(pod *corev1.Pod, spec *corev1.Container, img Image) (uid, gid uint32, groups []uint32) {
	uid = img.UID
	if s := pod.Spec.SecurityContext; s != nil {
		if s.RunAsUser != nil {
			uid = uint32(*s.RunAsUser)
		}
		if s.RunAsGroup != nil {
			gid = uint32(*s.RunAsGroup)
		}
		if s.FSGroup != nil {
			groups = append(groups, uint32(*s.FSGroup))
		}
	}
	if s := spec.SecurityContext; s != nil {
		if s.RunAsUser != nil {
			uid = uint32(*s.RunAsUser)
		}
		if s.RunAsGroup != nil {
			gid = uint32(*s.RunAsGroup)
		}
	}
	return uid, gid, groups
}

// start runs the process once.
func (c *container) start() (*sandbox.Process, error) {
	s := c.base
	c.mu.Lock()
	n := c.restarts
	c.mu.Unlock()
	s.Root = filepath.Join(c.w.dir, "containers", fmt.Sprintf("%s-%d", c.spec.Name, n))
	out, err := os.OpenFile(c.logFile(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	defer out.Close() // the process has its own
	s.Output = out
	return sandbox.Start(c.w.net, s)
}

// logFile outlives the pod, for whoever looks at why a run failed.
func (c *container) logFile() string {
	return filepath.Join(c.w.k.cfg.Dir, "logs", strings.ReplaceAll(c.w.name, "/", "_")+"_"+c.spec.Name+".log")
}

// launch starts the container and keeps it running until stop.
func (c *container) launch(ctx context.Context) {
	ctx, c.cancel = context.WithCancel(ctx)
	c.wg.Go(func() { c.loop(ctx) })
}

func (c *container) loop(ctx context.Context) {
	for {
		began := metav1.Now()
		p, err := c.start()
		if err != nil {
			c.set(nil, corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "StartError", Message: err.Error()}})
		} else {
			c.set(p, corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: began}})
			pctx, stop := context.WithCancel(ctx)
			var probes sync.WaitGroup
			c.probe(pctx, &probes, p)
			if ctx.Err() != nil {
				p.Stop(0) // stop saw no process to end
			}
			<-p.Done()
			stop()
			probes.Wait()
			c.ready.Store(false)
			c.ended(p, began)
		}
		if ctx.Err() != nil {
			return
		}
		c.mu.Lock()
		wait := backoff(c.restarts)
		c.restarts++
		c.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

func (c *container) set(p *sandbox.Process, s corev1.ContainerState) {
	c.mu.Lock()
	c.proc, c.state = p, s
	c.mu.Unlock()
	c.w.poke()
}

func (c *container) ended(p *sandbox.Process, began metav1.Time) {
	code := p.ExitCode()
	reason := "Completed"
	if code != 0 {
		reason = "Error"
	}
	c.w.k.cfg.Log.Info("container ended", "pod", c.w.name, "container", c.spec.Name, "code", code)
	c.mu.Lock()
	c.proc = nil
	c.state = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
		ExitCode: int32(code), Reason: reason, StartedAt: began, FinishedAt: metav1.Now(),
	}}
	c.last = c.state
	c.mu.Unlock()
	c.w.poke()
}

func (c *container) process() *sandbox.Process {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.proc
}

// stop ends the container for good.
func (c *container) stop(grace time.Duration) {
	if c.cancel == nil {
		return
	}
	if p := c.process(); p != nil {
		c.preStop(grace)
		p.Stop(grace)
	}
	c.cancel()
	if p := c.process(); p != nil {
		p.Stop(0) // it had just been started again
	}
	c.wg.Wait()
}

// preStop runs the hook that comes before SIGTERM; of the kinds only sleep and exec.
func (c *container) preStop(grace time.Duration) {
	if c.spec.Lifecycle == nil || c.spec.Lifecycle.PreStop == nil || grace == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	switch h := c.spec.Lifecycle.PreStop; {
	case h.Sleep != nil:
		select {
		case <-time.After(time.Duration(h.Sleep.Seconds) * time.Second):
		case <-ctx.Done():
		}
	case h.Exec != nil:
		if _, err := c.exec(ctx, h.Exec.Command, sandbox.Streams{}); err != nil {
			c.w.k.cfg.Log.Error("preStop hook failed", "pod", c.w.name, "container", c.spec.Name, "error", err)
		}
	}
}

// exec runs a command in the container.
func (c *container) exec(ctx context.Context, args []string, s sandbox.Streams) (int, error) {
	p := c.process()
	if p == nil {
		return 0, sandbox.ErrEnded
	}
	img, _ := c.w.k.image(c.spec.Image)
	args, err := command(args, img)
	if err != nil {
		return 0, err
	}
	return p.Exec(ctx, args, c.env, s)
}
