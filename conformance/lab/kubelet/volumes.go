package kubelet

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	authnv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// volumeRefresh is how often volumes follow their ConfigMaps and Secrets and tokens are
// made anew; kubelet's default is a minute.
const volumeRefresh = 20 * time.Second

// volumes are the folders of a pod's volumes. It belongs to the pod's worker.
type volumes struct {
	k     *Kubelet
	dir   string
	kinds map[string]bool // names of what was mounted
	round int
}

// entry is one file of a volume.
type entry struct {
	data []byte
	mode os.FileMode
}

// mount makes and fills every volume; called again it brings their content up to date.
func (v *volumes) mount(ctx context.Context, pod *corev1.Pod) error {
	if v.kinds == nil {
		v.kinds = map[string]bool{}
	}
	v.round++
	for i := range pod.Spec.Volumes {
		vol := &pod.Spec.Volumes[i]
		if err := v.one(ctx, pod, vol); err != nil {
			return fmt.Errorf("volume %s: %w", vol.Name, err)
		}
		v.kinds[vol.Name] = true
	}
	return nil
}

// path is where a volume is found on the machine.
func (v *volumes) path(name string) (string, error) {
	if !v.kinds[name] {
		return "", fmt.Errorf("volume %s is not defined", name)
	}
	return filepath.Join(v.dir, name), nil
}

func (v *volumes) one(ctx context.Context, pod *corev1.Pod, vol *corev1.Volume) error {
	dir := filepath.Join(v.dir, vol.Name)
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		return err
	}
	files := map[string]entry{}
	var err error
	switch s := vol.VolumeSource; {
	case s.EmptyDir != nil:
		return nil
	case s.CSI != nil:
		driver := v.k.cfg.CSI[s.CSI.Driver]
		if driver == nil {
			return fmt.Errorf("CSI driver %q is not known to the lab", s.CSI.Driver)
		}
		return driver(ctx, pod, dir)
	case s.ConfigMap != nil:
		err = v.configMap(ctx, pod, s.ConfigMap.Name, s.ConfigMap.Items, s.ConfigMap.Optional, mode(s.ConfigMap.DefaultMode), files)
	case s.Secret != nil:
		err = v.secret(ctx, pod, s.Secret.SecretName, s.Secret.Items, s.Secret.Optional, mode(s.Secret.DefaultMode), files)
	case s.DownwardAPI != nil:
		err = v.downward(pod, s.DownwardAPI.Items, mode(s.DownwardAPI.DefaultMode), files)
	case s.Projected != nil:
		m := mode(s.Projected.DefaultMode)
		for i := range s.Projected.Sources {
			if err = v.source(ctx, pod, &s.Projected.Sources[i], m, files); err != nil {
				break
			}
		}
	default:
		err = fmt.Errorf("the type is not supported")
	}
	if err != nil {
		return err
	}
	return v.write(pod, dir, files)
}

func (v *volumes) source(ctx context.Context, pod *corev1.Pod, s *corev1.VolumeProjection, m os.FileMode, files map[string]entry) error {
	switch {
	case s.ServiceAccountToken != nil:
		return v.token(ctx, pod, s.ServiceAccountToken, m, files)
	case s.ConfigMap != nil:
		return v.configMap(ctx, pod, s.ConfigMap.Name, s.ConfigMap.Items, s.ConfigMap.Optional, m, files)
	case s.Secret != nil:
		return v.secret(ctx, pod, s.Secret.Name, s.Secret.Items, s.Secret.Optional, m, files)
	case s.DownwardAPI != nil:
		return v.downward(pod, s.DownwardAPI.Items, m, files)
	}
	return fmt.Errorf("a projected source is not supported")
}

func (v *volumes) configMap(ctx context.Context, pod *corev1.Pod, name string, items []corev1.KeyToPath, optional *bool, m os.FileMode, files map[string]entry) error {
	cm, err := v.k.cfg.Client.CoreV1().ConfigMaps(pod.Namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) && optional != nil && *optional {
		return nil
	}
	if err != nil {
		return err
	}
	data := map[string][]byte{}
	for k, s := range cm.Data {
		data[k] = []byte(s)
	}
	for k, b := range cm.BinaryData {
		data[k] = b
	}
	return pick(data, items, m, files)
}

func (v *volumes) secret(ctx context.Context, pod *corev1.Pod, name string, items []corev1.KeyToPath, optional *bool, m os.FileMode, files map[string]entry) error {
	s, err := v.k.cfg.Client.CoreV1().Secrets(pod.Namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) && optional != nil && *optional {
		return nil
	}
	if err != nil {
		return err
	}
	return pick(s.Data, items, m, files)
}

// pick chooses keys, all of them if none is named.
func pick(data map[string][]byte, items []corev1.KeyToPath, m os.FileMode, files map[string]entry) error {
	if len(items) == 0 {
		for k, b := range data {
			files[k] = entry{b, m}
		}
		return nil
	}
	for _, it := range items {
		b, ok := data[it.Key]
		if !ok {
			return fmt.Errorf("there is no key %q", it.Key)
		}
		fm := m
		if it.Mode != nil {
			fm = os.FileMode(*it.Mode)
		}
		files[it.Path] = entry{b, fm}
	}
	return nil
}

func (v *volumes) downward(pod *corev1.Pod, items []corev1.DownwardAPIVolumeFile, m os.FileMode, files map[string]entry) error {
	w := v.k.find(pod.Namespace, pod.Name)
	for _, it := range items {
		if it.FieldRef == nil || w == nil {
			return fmt.Errorf("%s: only fields are supported", it.Path)
		}
		s, err := w.field(pod, it.FieldRef.FieldPath)
		if err != nil {
			return err
		}
		files[it.Path] = entry{[]byte(s), m}
	}
	return nil
}

// token asks the API server for a token bound to the pod.
func (v *volumes) token(ctx context.Context, pod *corev1.Pod, s *corev1.ServiceAccountTokenProjection, m os.FileMode, files map[string]entry) error {
	req := &authnv1.TokenRequest{Spec: authnv1.TokenRequestSpec{
		ExpirationSeconds: s.ExpirationSeconds,
		BoundObjectRef:    &authnv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: pod.Name, UID: pod.UID},
	}}
	if s.Audience != "" {
		req.Spec.Audiences = []string{s.Audience}
	}
	sa := pod.Spec.ServiceAccountName
	if sa == "" {
		sa = "default"
	}
	res, err := v.k.cfg.Client.CoreV1().ServiceAccounts(pod.Namespace).CreateToken(ctx, sa, req, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	files[s.Path] = entry{[]byte(res.Status.Token), m}
	return nil
}

// write replaces a volume's files in one step, as the kubelet does: they are links
// through "..data", which is a link to the folder of the round.
func (v *volumes) write(pod *corev1.Pod, dir string, files map[string]entry) error {
	round := fmt.Sprintf("..%d", v.round)
	uid, gid := owner(pod)
	for name, e := range files {
		at := filepath.Join(dir, round, name)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(at, e.data, e.mode); err != nil {
			return err
		}
		if err := os.Chown(at, uid, gid); err != nil {
			return err
		}
		if err := os.Chmod(at, e.mode); err != nil {
			return err
		}
	}
	if len(files) == 0 {
		if err := os.MkdirAll(filepath.Join(dir, round), 0o755); err != nil {
			return err
		}
	}
	tmp := filepath.Join(dir, "..new")
	_ = os.Remove(tmp)
	if err := os.Symlink(round, tmp); err != nil {
		return err
	}
	data := filepath.Join(dir, "..data")
	old, _ := os.Readlink(data)
	if err := os.Rename(tmp, data); err != nil {
		return err
	}
	for name := range files {
		// A path of several parts is linked by its first.
		link := filepath.Join(dir, first(name))
		if _, err := os.Lstat(link); err == nil {
			continue
		}
		if err := os.Symlink(filepath.Join("..data", first(name)), link); err != nil {
			return err
		}
	}
	if old != "" && old != round {
		return os.RemoveAll(filepath.Join(dir, old))
	}
	return nil
}

func first(name string) string {
	for i := range name {
		if name[i] == '/' {
			return name[:i]
		}
	}
	return name
}

// owner makes files readable for the pod's user and group.
func owner(pod *corev1.Pod) (uid, gid int) {
	s := pod.Spec.SecurityContext
	if s != nil && s.RunAsUser != nil {
		uid = int(*s.RunAsUser)
	} else if len(pod.Spec.Containers) > 0 {
		if c := pod.Spec.Containers[0].SecurityContext; c != nil && c.RunAsUser != nil {
			uid = int(*c.RunAsUser)
		}
	}
	if s != nil && s.FSGroup != nil {
		gid = int(*s.FSGroup)
	}
	return uid, gid
}

func mode(m *int32) os.FileMode {
	if m == nil {
		return 0o644
	}
	return os.FileMode(*m)
}

// podUID keeps a patch from reaching a pod that took another's name.
func podUID(uid types.UID) map[string]any { return map[string]any{"uid": string(uid)} }
