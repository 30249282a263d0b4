package kubelet

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"waypoint.dev/waypoint/conformance/lab/sandbox"
)

// errRetry is how often starting a pod is tried again: its ConfigMaps, Secrets and service
// account may come after it.
const errRetry = 200 * time.Millisecond

// worker owns one pod.
type worker struct {
	// Fixed after newWorker.
	k        *Kubelet
	uid      types.UID
	name     string // "namespace/name"
	dir      string
	changed  chan struct{} // capacity 1: the pod or a container changed
	killed   chan struct{}
	killOnce sync.Once

	// Owned by run's goroutine.
	net      *sandbox.Net
	detach   func()
	notes    map[string]string // what the CNI plugin said and the API server does not know yet
	volumes  *volumes
	reported string // the status that was written last

	mu         sync.Mutex
	pod        *corev1.Pod  // guarded by mu: the newest version
	containers []*container // guarded by mu
	waiting    string       // guarded by mu: why there are no containers yet
	started    metav1.Time  // guarded by mu
	ip         string       // guarded by mu
}

func newWorker(k *Kubelet, pod *corev1.Pod) *worker {
	return &worker{
		k: k, uid: pod.UID, name: pod.Namespace + "/" + pod.Name, pod: pod,
		dir:     filepath.Join(k.cfg.Dir, "pods", string(pod.UID)),
		changed: make(chan struct{}, 1), killed: make(chan struct{}), started: metav1.Now(),
	}
}

// update takes a new version of the pod. Of its spec only what may change in place counts:
// its deletion.
func (w *worker) update(pod *corev1.Pod) {
	w.mu.Lock()
	w.pod = pod
	w.mu.Unlock()
	w.poke()
}

func (w *worker) kill() { w.killOnce.Do(func() { close(w.killed) }) }

// poke makes run look at the pod again.
func (w *worker) poke() {
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

func (w *worker) current() *corev1.Pod {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.pod
}

// run is the pod's life.
func (w *worker) run(ctx context.Context) {
	defer w.k.gone(w)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-w.killed:
			cancel()
		case <-ctx.Done():
		}
	}()
	grace := time.Duration(0)
	if w.begin(ctx) {
		grace = w.live(ctx)
	}
	w.end(grace)
	if ctx.Err() != nil {
		return
	}
	pod := w.current()
	if pod.DeletionTimestamp == nil {
		return
	}
	zero := int64(0)
	err := w.k.cfg.Client.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{
		GracePeriodSeconds: &zero, Preconditions: &metav1.Preconditions{UID: &w.uid},
	})
	if err != nil && !apierrors.IsNotFound(err) {
		w.k.cfg.Log.Error("pod cannot be deleted", "pod", w.name, "error", err)
	}
}

// begin starts the pod, trying until it succeeds. It reports false if the pod is to go.
func (w *worker) begin(ctx context.Context) bool {
	for {
		pod := w.current()
		if ctx.Err() != nil || pod.DeletionTimestamp != nil {
			return false
		}
		err := w.start(ctx, pod)
		if err == nil {
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		w.mu.Lock()
		w.waiting = err.Error()
		w.mu.Unlock()
		w.report(ctx)
		select {
		case <-ctx.Done():
		case <-w.changed:
			w.pause(ctx)
		case <-time.After(errRetry):
		}
	}
}

// pause keeps a pod whose own status reports come back as changes from spinning.
func (w *worker) pause(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(errRetry / 4):
	}
}

func (w *worker) start(ctx context.Context, pod *corev1.Pod) error {
	if w.net == nil {
		n, err := sandbox.NewNet()
		if err != nil {
			return err
		}
		w.net = n
		w.mu.Lock()
		w.ip = n.IP.String()
		w.mu.Unlock()
	}
	if w.volumes == nil {
		w.volumes = &volumes{k: w.k, dir: filepath.Join(w.dir, "volumes")}
	}
	if err := w.volumes.mount(ctx, pod); err != nil {
		return err
	}
	if err := w.attach(ctx, pod); err != nil {
		return err
	}
	for i := range pod.Spec.InitContainers {
		if err := w.initialize(ctx, pod, &pod.Spec.InitContainers[i]); err != nil {
			return err
		}
	}
	var cs []*container
	for i := range pod.Spec.Containers {
		c, err := newContainer(w, pod, &pod.Spec.Containers[i])
		if err != nil {
			return err
		}
		cs = append(cs, c)
	}
	w.mu.Lock()
	w.containers, w.waiting = cs, ""
	w.mu.Unlock()
	for _, c := range cs {
		c.launch(ctx)
	}
	return nil
}

// attach lets the CNI plugin have the pod's network, once, and writes down what it says of
// the pod, as often as that takes.
func (w *worker) attach(ctx context.Context, pod *corev1.Pod) error {
	if w.k.cfg.Attach == nil {
		return nil
	}
	if w.detach == nil {
		notes, detach, err := w.k.cfg.Attach(pod, w.net)
		if err != nil {
			return err
		}
		if detach == nil {
			detach = func() {}
		}
		w.notes, w.detach = notes, detach
	}
	if len(w.notes) > 0 {
		if err := w.annotate(ctx, pod, w.notes); err != nil {
			return err
		}
	}
	w.notes = nil
	return nil
}

// initialize runs an init container to its end.
func (w *worker) initialize(ctx context.Context, pod *corev1.Pod, spec *corev1.Container) error {
	if spec.RestartPolicy != nil {
		return fmt.Errorf("init container %s: restartPolicy is not supported", spec.Name)
	}
	c, err := newContainer(w, pod, spec)
	if err != nil {
		return err
	}
	p, err := c.start()
	if err != nil {
		return err
	}
	select {
	case <-p.Done():
	case <-ctx.Done():
		p.Stop(0)
		return ctx.Err()
	}
	if code := p.ExitCode(); code != 0 {
		return fmt.Errorf("init container %s: exit code %d", spec.Name, code)
	}
	return nil
}

// live reports status until the pod is to go and returns its grace period.
func (w *worker) live(ctx context.Context) time.Duration {
	refresh := time.NewTicker(volumeRefresh)
	defer refresh.Stop()
	for {
		w.report(ctx)
		if pod := w.current(); pod.DeletionTimestamp != nil {
			if s := pod.DeletionGracePeriodSeconds; s != nil {
				return time.Duration(*s) * time.Second
			}
			return 0
		}
		select {
		case <-ctx.Done():
			return 0
		case <-w.changed:
		case <-refresh.C:
			if err := w.volumes.mount(ctx, w.current()); err != nil && ctx.Err() == nil {
				w.k.cfg.Log.Error("volumes cannot be refreshed", "pod", w.name, "error", err)
			}
		}
	}
}

// end stops what start started. Containers get SIGTERM and the grace period together.
func (w *worker) end(grace time.Duration) {
	w.mu.Lock()
	cs := w.containers
	w.mu.Unlock()
	var wg sync.WaitGroup
	for _, c := range cs {
		wg.Go(func() { c.stop(grace) })
	}
	wg.Wait()
	if w.detach != nil {
		w.detach()
	}
	if w.net != nil {
		w.net.Close()
	}
	if err := os.RemoveAll(w.dir); err != nil {
		w.k.cfg.Log.Error("files of a pod cannot be removed", "pod", w.name, "error", err)
	}
}

// container returns a running container by name, the only one for "".
func (w *worker) container(name string) (*container, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.containers {
		if c.spec.Name == name || name == "" && len(w.containers) == 1 {
			return c, nil
		}
	}
	return nil, errors.New("no such container is running")
}
