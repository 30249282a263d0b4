package kubelet

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"waypoint.dev/waypoint/conformance/lab/sandbox"
)

// Port is where the API server finds the kubelet.
const Port = 10250

// Image is what a container's image field stands for: files of this machine.
type Image struct {
	// Entrypoint is used where the container has no command of its own.
	Entrypoint []string
	// Args follow the container's own arguments.
	Args []string
	// Env comes before the container's own variables.
	Env []string
	// Files and folders are bind mounted, by path inside the container.
	Files map[string]string
	// UID is the image's user.
	UID uint32
}

// Volume fills the folder of a CSI volume for a pod.
type Volume func(ctx context.Context, pod *corev1.Pod, dir string) error

// Config of a node. All fields are fixed once New has been called.
type Config struct {
	Client kubernetes.Interface
	// Node is the node's name.
	Node string
	// Dir takes the pods' root file systems, volumes and logs.
	Dir string
	// Certificate is what the API server sees; it does not verify it.
	Certificate tls.Certificate
	// Attach is called when a pod has its network and before its first container: a CNI
	// plugin. The annotations are written to the pod; detach, if any, is called when the
	// containers have ended.
	Attach func(pod *corev1.Pod, n *sandbox.Net) (annotations map[string]string, detach func(), err error)
	// CSI has the drivers of CSI volumes by name.
	CSI map[string]Volume
	Log *slog.Logger
}

// Kubelet runs the pods of one node.
type Kubelet struct {
	// Fixed after New.
	cfg    Config
	server *http.Server

	wg sync.WaitGroup

	mu     sync.Mutex
	images map[string]Image       // guarded by mu
	pods   map[types.UID]*worker  // guarded by mu
	cancel context.CancelFunc     // guarded by mu
	byName map[string]types.UID   // guarded by mu: "namespace/name"
	bound  map[types.UID]struct{} // guarded by mu: pods whose binding is under way
}

// New returns a Kubelet that does nothing until Start.
func New(cfg Config) *Kubelet {
	return &Kubelet{
		cfg: cfg, images: map[string]Image{}, pods: map[types.UID]*worker{},
		byName: map[string]types.UID{}, bound: map[types.UID]struct{}{},
	}
}

// SetImage defines what an image name, without tag or digest, stands for, from the next container start on.
func (k *Kubelet) SetImage(name string, img Image) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.images[name] = img
}

// RemoveImage makes containers of the image fail to start.
func (k *Kubelet) RemoveImage(name string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.images, name)
}

func (k *Kubelet) image(name string) (Image, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	// Tags and digests do not matter here: a name has one meaning.
	name, _, _ = strings.Cut(name, "@")
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		name = name[:i]
	}
	img, ok := k.images[name]
	return img, ok
}

// Start registers the node and begins to run its pods.
func (k *Kubelet) Start(ctx context.Context) error {
	if err := k.register(ctx); err != nil {
		return fmt.Errorf("kubelet: register node: %w", err)
	}
	if err := k.serve(); err != nil {
		return fmt.Errorf("kubelet: %w", err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	k.mu.Lock()
	k.cancel = cancel
	k.mu.Unlock()
	lw := cache.NewListWatchFromClient(k.cfg.Client.CoreV1().RESTClient(), "pods", metav1.NamespaceAll, fields.Everything())
	_, informer := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: lw, ObjectType: &corev1.Pod{},
		Handler: cache.ResourceEventHandlerFuncs{
			AddFunc:    func(o any) { k.sync(ctx, o.(*corev1.Pod)) },
			UpdateFunc: func(_, o any) { k.sync(ctx, o.(*corev1.Pod)) },
			DeleteFunc: func(o any) {
				if d, ok := o.(cache.DeletedFinalStateUnknown); ok {
					o = d.Obj
				}
				if p, ok := o.(*corev1.Pod); ok {
					k.forget(p)
				}
			},
		},
	})
	k.wg.Go(func() { informer.RunWithContext(ctx) })
	return nil
}

// Close kills every pod, without telling the API server.
func (k *Kubelet) Close() {
	k.mu.Lock()
	cancel := k.cancel
	k.mu.Unlock()
	if cancel != nil {
		cancel()
	}
	if k.server != nil {
		_ = k.server.Close()
	}
	k.wg.Wait()
}

func (k *Kubelet) register(ctx context.Context) error {
	nodes := k.cfg.Client.CoreV1().Nodes()
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{
		Name: k.cfg.Node,
		Labels: map[string]string{
			"kubernetes.io/hostname": k.cfg.Node, "kubernetes.io/os": "linux",
			"topology.kubernetes.io/region": "lab", "topology.kubernetes.io/zone": "lab-a",
		},
	}}
	node, err := nodes.Create(ctx, node, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	now := metav1.Now()
	node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: sandbox.NodeIP}}
	node.Status.DaemonEndpoints.KubeletEndpoint.Port = Port
	node.Status.Conditions = []corev1.NodeCondition{{
		Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady",
		LastHeartbeatTime: now, LastTransitionTime: now,
	}}
	_, err = nodes.UpdateStatus(ctx, node, metav1.UpdateOptions{})
	return err
}

// sync hands a new version of a pod to its worker.
func (k *Kubelet) sync(ctx context.Context, pod *corev1.Pod) {
	if pod.Spec.NodeName == "" {
		k.bind(ctx, pod)
		return
	}
	if pod.Spec.NodeName != k.cfg.Node || ctx.Err() != nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.bound, pod.UID)
	w := k.pods[pod.UID]
	if w == nil {
		w = newWorker(k, pod)
		k.pods[pod.UID] = w
		k.byName[pod.Namespace+"/"+pod.Name] = pod.UID
		k.wg.Go(func() { w.run(ctx) })
	}
	w.update(pod)
}

// bind is the scheduler: there is one node.
func (k *Kubelet) bind(ctx context.Context, pod *corev1.Pod) {
	k.mu.Lock()
	_, busy := k.bound[pod.UID]
	k.bound[pod.UID] = struct{}{}
	k.mu.Unlock()
	if busy || pod.DeletionTimestamp != nil {
		return
	}
	k.wg.Go(func() {
		err := k.cfg.Client.CoreV1().Pods(pod.Namespace).Bind(ctx, &corev1.Binding{
			ObjectMeta: metav1.ObjectMeta{Name: pod.Name, Namespace: pod.Namespace, UID: pod.UID},
			Target:     corev1.ObjectReference{Kind: "Node", Name: k.cfg.Node},
		}, metav1.CreateOptions{})
		if err != nil && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) && ctx.Err() == nil {
			k.cfg.Log.Error("pod cannot be bound", "pod", pod.Namespace+"/"+pod.Name, "error", err)
		}
	})
}

// forget kills a pod that the API server no longer has.
func (k *Kubelet) forget(pod *corev1.Pod) {
	k.mu.Lock()
	w := k.pods[pod.UID]
	delete(k.bound, pod.UID)
	k.mu.Unlock()
	if w != nil {
		w.kill()
	}
}

// gone takes a worker that has ended off the books.
func (k *Kubelet) gone(w *worker) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.pods, w.uid)
	if k.byName[w.name] == w.uid {
		delete(k.byName, w.name)
	}
}

func (k *Kubelet) find(namespace, name string) *worker {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.pods[k.byName[namespace+"/"+name]]
}

// backoff is the pause before a container is started again: short, for a lab.
func backoff(restarts int32) time.Duration {
	return min(200*time.Millisecond<<min(restarts, 5), 5*time.Second)
}
