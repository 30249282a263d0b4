package kubelet

import (
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"

	"waypoint.dev/waypoint/conformance/lab/sandbox"
)

func pointer[T any](x T) *T { return &x }

// workerOf is one that has its network and has not started.
func workerOf(t *testing.T, pod *corev1.Pod, objects ...runtime.Object) *worker {
	t.Helper()
	k := New(Config{Client: fake.NewClientset(objects...), Node: "node", Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler)})
	k.SetImage("registry.example/app", Image{
		Entrypoint: []string{"serve", "--from=$(FROM)"}, Args: []string{"--last"}, Env: []string{"IMAGE=yes"},
		Files: map[string]string{"/usr/bin/serve": "/bin/true"}, UID: 7,
	})
	w := newWorker(k, pod)
	w.net = &sandbox.Net{IP: netip.MustParseAddr("127.0.0.1")}
	w.volumes = &volumes{k: k, dir: filepath.Join(w.dir, "volumes")}
	return w
}

func appPod(c corev1.Container) *corev1.Pod {
	c.Name, c.Image = "app", "registry.example/app:v1@sha256:0"
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "shop", UID: "u-1", Labels: map[string]string{"b": "2", "a": "1"}},
		Spec:       corev1.PodSpec{NodeName: "node", ServiceAccountName: "web", Containers: []corev1.Container{c}},
	}
}

func TestExpand(t *testing.T) {
	vars := map[string]string{"A": "one", "B": "$(A)"}
	for in, want := range map[string]string{
		"": "", "plain": "plain", "$(A)": "one", "x$(A)y$(A)": "xoney" + "one", "$(B)": "$(A)", "$$(A)": "$(A)", "$$$(A)": "$one",
		"$(C)": "$(C)", "$(A": "$(A", "$": "$", "$x": "$x", "$()": "$()", "a$$": "a$",
	} {
		if got := expand(in, vars); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func FuzzExpand(f *testing.F) {
	for _, s := range []string{"$(A)", "$$(A)", "$(", "$", "a$(B)c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if got := expand(s, nil); strings.ReplaceAll(got, "$", "") != strings.ReplaceAll(s, "$", "") {
			t.Errorf("%q: %q", s, got)
		}
	})
}

// A container is what its image and its spec make of it.
func TestContainer(t *testing.T) {
	pod := appPod(corev1.Container{Args: []string{"--name=$(NAME)"}, Env: []corev1.EnvVar{{Name: "FROM", Value: "here"}, {Name: "NAME", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.name"}}}}})
	pod.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsGroup: pointer(int64(8)), FSGroup: pointer(int64(9))}
	w := workerOf(t, pod)
	c, err := newContainer(w, pod, &pod.Spec.Containers[0])
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(c.base.Args, " "); got != "/usr/bin/serve --from=here --name=p --last" {
		t.Errorf("command: %s", got)
	}
	if c.base.UID != 7 || c.base.GID != 8 || !slices.Equal(c.base.Groups, []uint32{9}) || c.base.Hostname != "p" {
		t.Errorf("%d %d %v %s", c.base.UID, c.base.GID, c.base.Groups, c.base.Hostname)
	}
	if !slices.Contains(c.env, "IMAGE=yes") || !slices.Contains(c.env, "KUBERNETES_SERVICE_HOST="+ServicesIP) {
		t.Errorf("%v", c.env)
	}
	for what, change := range map[string]func(*corev1.Pod){
		"an unknown image":       func(p *corev1.Pod) { p.Spec.Containers[0].Image = "registry.example/other" },
		"an unknown command":     func(p *corev1.Pod) { p.Spec.Containers[0].Command = []string{"dance"} },
		"a volume that is not":   func(p *corev1.Pod) { p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "v"}} },
		"an unknown field":       func(p *corev1.Pod) { p.Spec.Containers[0].Env[1].ValueFrom.FieldRef.FieldPath = "spec.mood" },
		"a missing key":          func(p *corev1.Pod) { p.Spec.Containers[0].Env[1].ValueFrom = fromMap("none", nil) },
		"no source of the value": func(p *corev1.Pod) { p.Spec.Containers[0].Env[1].ValueFrom = &corev1.EnvVarSource{} },
	} {
		p := pod.DeepCopy()
		change(p)
		if _, err := newContainer(workerOf(t, p), p, &p.Spec.Containers[0]); err == nil {
			t.Errorf("%s is taken", what)
		}
	}
}

func fromMap(name string, optional *bool) *corev1.EnvVarSource {
	return &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: name}, Key: "k", Optional: optional}}
}

func TestEnvironment(t *testing.T) {
	pod := appPod(corev1.Container{
		EnvFrom: []corev1.EnvFromSource{
			{Prefix: "S_", SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "s"}}},
			{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "gone"}, Optional: pointer(true)}},
		},
		Env: []corev1.EnvVar{
			{Name: "A", Value: "1"}, {Name: "B", Value: "$(A)$(C)"}, {Name: "A", Value: "2"}, {Name: "K", ValueFrom: fromMap("m", nil)},
			{Name: "GONE", ValueFrom: fromMap("gone", pointer(true))}, {Name: "SECRET", Value: "$(S_x)"},
		},
	})
	w := workerOf(t, pod,
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "s", Namespace: "shop"}, Data: map[string][]byte{"x": []byte("hidden")}},
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "m", Namespace: "shop"}, Data: map[string]string{"k": "v"}})
	list, err := w.environment(pod, &pod.Spec.Containers[0])
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, e := range list {
		if _, twice := got[e.Name]; twice {
			t.Errorf("%s comes twice", e.Name)
		}
		got[e.Name] = e.Value
	}
	maps.DeleteFunc(got, func(k, _ string) bool { return k == "PATH" || k == "HOSTNAME" || strings.HasPrefix(k, "KUBERNETES_") })
	if want := map[string]string{"A": "2", "B": "1$(C)", "K": "v", "S_x": "hidden", "SECRET": "hidden"}; !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	for path, want := range map[string]string{
		"metadata.namespace": "shop", "metadata.uid": "u-1", "spec.nodeName": "node", "spec.serviceAccountName": "web", "status.podIP": "127.0.0.1",
		"status.hostIP": sandbox.NodeIP, "metadata.labels": "a=\"1\"\nb=\"2\"", "metadata.labels['b']": "2", "metadata.annotations['none']": "",
	} {
		if got, err := w.field(pod, path); err != nil || got != want {
			t.Errorf("%s: %q %v", path, got, err)
		}
	}
}

func TestResources(t *testing.T) {
	c := &corev1.Container{Resources: corev1.ResourceRequirements{
		Limits: corev1.ResourceList{"memory": quantity("1Gi")}, Requests: corev1.ResourceList{"cpu": quantity("1500m")}}}
	for _, tc := range []struct{ resource, divisor, want string }{
		{"limits.memory", "0", "1073741824"}, {"limits.memory", "1Mi", "1024"}, {"requests.cpu", "0", "2"}, {"requests.cpu", "1m", "1500"},
		{"limits.cpu", "0", nodeCPUs}, {"requests.memory", "0", nodeMemory}, {"limits.moods", "0", ""},
	} {
		got, err := resource(c, &corev1.ResourceFieldSelector{Resource: tc.resource, Divisor: quantity(tc.divisor)})
		if got != tc.want || (err != nil) != (tc.want == "") {
			t.Errorf("%s by %s: %q %v", tc.resource, tc.divisor, got, err)
		}
	}
}

// A volume's files change all at once, and those that are gone are gone.
func TestVolumeFollows(t *testing.T) {
	pod := appPod(corev1.Container{})
	m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "m", Namespace: "shop"}, Data: map[string]string{"a": "1", "b": "1"}, BinaryData: map[string][]byte{"c": {0}}}
	pod.Spec.Volumes = []corev1.Volume{
		{Name: "all", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "m"}}}},
		{Name: "some", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
			{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "m"}, Items: []corev1.KeyToPath{{Key: "b", Path: "deep/file", Mode: pointer(int32(0o600))}}}},
		}}}},
		{Name: "empty", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
	}
	w := workerOf(t, pod, m)
	read := func(volume, file string) string {
		dir, err := w.volumes.path(volume)
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			return ""
		}
		return string(b)
	}
	if _, err := w.volumes.path("all"); err == nil {
		t.Error("a volume is there before it is mounted")
	}
	for round, want := range []string{"1", "2"} {
		m.Data = map[string]string{"a": want, "b": want}
		if round == 1 {
			m.BinaryData = nil
		}
		if _, err := w.k.cfg.Client.CoreV1().ConfigMaps("shop").Update(t.Context(), m, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := w.volumes.mount(t.Context(), pod); err != nil {
			t.Fatal(err)
		}
		if got := read("all", "a") + read("some", "deep/file"); got != want+want {
			t.Errorf("round %d: %q", round, got)
		}
	}
	if got := read("all", "c"); got != "" {
		t.Errorf("a file whose key is gone: %q", got)
	}
	dir, _ := w.volumes.path("some")
	if st, err := os.Stat(filepath.Join(dir, "deep/file")); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", st, err)
	}
	rounds, _ := filepath.Glob(filepath.Join(dir, "..[0-9]*"))
	if len(rounds) != 1 {
		t.Errorf("former rounds stay: %v", rounds)
	}
	for what, v := range map[string]corev1.VolumeSource{
		"a ConfigMap that is not there": {ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "gone"}}},
		"a key that is not there":       {ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "m"}, Items: []corev1.KeyToPath{{Key: "gone", Path: "x"}}}},
		"a driver that is not known":    {CSI: &corev1.CSIVolumeSource{Driver: "unknown"}},
		"a type that is not known":      {HostPath: &corev1.HostPathVolumeSource{Path: "/"}},
	} {
		p := appPod(corev1.Container{})
		p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: v}}
		if err := w.volumes.mount(t.Context(), p); err == nil {
			t.Errorf("%s is mounted", what)
		}
	}
}

func TestStatus(t *testing.T) {
	pod := appPod(corev1.Container{})
	w := workerOf(t, pod)
	w.waiting = "no image"
	s := w.status(pod)
	if s.Phase != corev1.PodPending || s.ContainerStatuses[0].State.Waiting.Message != "no image" || readyOf(s) {
		t.Errorf("a pod that cannot start: %+v", s)
	}
	c := &container{w: w, spec: &pod.Spec.Containers[0], proc: &sandbox.Process{}, restarts: 2}
	w.waiting, w.containers = "", []*container{c}
	if s = w.status(pod); s.Phase != corev1.PodRunning || readyOf(s) || s.ContainerStatuses[0].RestartCount != 2 {
		t.Errorf("a pod that is not ready: %+v", s)
	}
	c.ready.Store(true)
	if s = w.status(pod); !readyOf(s) {
		t.Errorf("a pod that is ready: %+v", s)
	}
	// The time of a condition is that of its last transition.
	long := metav1.NewTime(time.Now().Add(-time.Hour))
	pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: long}}
	for _, is := range []bool{true, false} {
		if got := condition(pod, corev1.PodReady, is); got.LastTransitionTime.Equal(&long) != is {
			t.Errorf("ready %t: %v", is, got.LastTransitionTime)
		}
	}
}

func readyOf(s corev1.PodStatus) bool {
	i := slices.IndexFunc(s.Conditions, func(c corev1.PodCondition) bool { return c.Type == corev1.PodReady })
	return s.Conditions[i].Status == corev1.ConditionTrue
}

func TestImages(t *testing.T) {
	k := New(Config{})
	k.SetImage("reg:5000/a/b", Image{UID: 1})
	for name, want := range map[string]bool{
		"reg:5000/a/b": true, "reg:5000/a/b:v1": true, "reg:5000/a/b@sha256:0": true, "reg:5000/a/b:v1@sha256:0": true, "reg:5000/a": false, "b": false,
	} {
		if _, ok := k.image(name); ok != want {
			t.Errorf("%s: %t", name, ok)
		}
	}
	k.RemoveImage("reg:5000/a/b")
	if _, ok := k.image("reg:5000/a/b"); ok {
		t.Error("an image that was removed is known")
	}
}

func TestBackoff(t *testing.T) {
	for n, want := range map[int32]time.Duration{0: 200 * time.Millisecond, 1: 400 * time.Millisecond, 4: 3200 * time.Millisecond, 5: 5 * time.Second, 1 << 30: 5 * time.Second} {
		if got := backoff(n); got != want {
			t.Errorf("after %d restarts %v, want %v", n, got, want)
		}
	}
}
