package kubelet

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"waypoint.dev/waypoint/conformance/lab/sandbox"
)

// ServicesIP is the cluster IP of the API server's own Service: the first of the range.
const ServicesIP = "10.96.0.1"

// environment resolves the variables of a container, in order; later ones may use earlier
// ones as $(NAME).
func (w *worker) environment(pod *corev1.Pod, c *corev1.Container) ([]corev1.EnvVar, error) {
	env := []corev1.EnvVar{
		{Name: "PATH", Value: strings.Join(searchPath, ":")},
		{Name: "HOSTNAME", Value: pod.Name},
		{Name: "KUBERNETES_SERVICE_HOST", Value: ServicesIP},
		{Name: "KUBERNETES_SERVICE_PORT", Value: "443"},
	}
	for _, from := range c.EnvFrom {
		data, err := w.envFrom(pod.Namespace, from)
		if err != nil {
			return nil, err
		}
		for k, v := range data {
			env = append(env, corev1.EnvVar{Name: from.Prefix + k, Value: v})
		}
	}
	vars := map[string]string{}
	for _, e := range env {
		vars[e.Name] = e.Value
	}
	for _, e := range c.Env {
		v := expand(e.Value, vars)
		if e.ValueFrom != nil {
			var ok bool
			var err error
			if v, ok, err = w.valueFrom(pod, c, e.ValueFrom); err != nil {
				return nil, fmt.Errorf("variable %s: %w", e.Name, err)
			}
			if !ok {
				continue
			}
		}
		vars[e.Name] = v
		env = slices.DeleteFunc(env, func(x corev1.EnvVar) bool { return x.Name == e.Name })
		env = append(env, corev1.EnvVar{Name: e.Name, Value: v})
	}
	return env, nil
}

func (w *worker) envFrom(ns string, from corev1.EnvFromSource) (map[string]string, error) {
	ctx := context.Background()
	if r := from.ConfigMapRef; r != nil {
		cm, err := w.k.cfg.Client.CoreV1().ConfigMaps(ns).Get(ctx, r.Name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) && r.Optional != nil && *r.Optional {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		return cm.Data, nil
	}
	if r := from.SecretRef; r != nil {
		s, err := w.k.cfg.Client.CoreV1().Secrets(ns).Get(ctx, r.Name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) && r.Optional != nil && *r.Optional {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		out := map[string]string{}
		for k, v := range s.Data {
			out[k] = string(v)
		}
		return out, nil
	}
	return nil, nil
}

// valueFrom reports false for an optional key that does not exist.
func (w *worker) valueFrom(pod *corev1.Pod, c *corev1.Container, from *corev1.EnvVarSource) (string, bool, error) {
	ctx := context.Background()
	optional := func(b *bool, err error) (string, bool, error) {
		if b != nil && *b && (err == nil || apierrors.IsNotFound(err)) {
			return "", false, nil
		}
		if err == nil {
			err = fmt.Errorf("the key does not exist")
		}
		return "", false, err
	}
	switch {
	case from.FieldRef != nil:
		v, err := w.field(pod, from.FieldRef.FieldPath)
		return v, true, err
	case from.ResourceFieldRef != nil:
		v, err := resource(c, from.ResourceFieldRef)
		return v, true, err
	case from.ConfigMapKeyRef != nil:
		r := from.ConfigMapKeyRef
		cm, err := w.k.cfg.Client.CoreV1().ConfigMaps(pod.Namespace).Get(ctx, r.Name, metav1.GetOptions{})
		if err == nil {
			if v, ok := cm.Data[r.Key]; ok {
				return v, true, nil
			}
		}
		return optional(r.Optional, err)
	case from.SecretKeyRef != nil:
		r := from.SecretKeyRef
		s, err := w.k.cfg.Client.CoreV1().Secrets(pod.Namespace).Get(ctx, r.Name, metav1.GetOptions{})
		if err == nil {
			if v, ok := s.Data[r.Key]; ok {
				return string(v), true, nil
			}
		}
		return optional(r.Optional, err)
	}
	return "", false, fmt.Errorf("unknown source of a value")
}

// field is the downward API.
func (w *worker) field(pod *corev1.Pod, path string) (string, error) {
	switch path {
	case "metadata.name":
		return pod.Name, nil
	case "metadata.namespace":
		return pod.Namespace, nil
	case "metadata.uid":
		return string(pod.UID), nil
	case "metadata.labels":
		return pairs(pod.Labels), nil
	case "metadata.annotations":
		return pairs(pod.Annotations), nil
	case "spec.nodeName":
		return pod.Spec.NodeName, nil
	case "spec.serviceAccountName":
		return pod.Spec.ServiceAccountName, nil
	case "status.podIP", "status.podIPs":
		return w.net.IP.String(), nil
	case "status.hostIP", "status.hostIPs":
		return sandbox.NodeIP, nil
	}
	for prefix, m := range map[string]map[string]string{"metadata.labels['": pod.Labels, "metadata.annotations['": pod.Annotations} {
		if rest, ok := strings.CutPrefix(path, prefix); ok {
			return m[strings.TrimSuffix(rest, "']")], nil
		}
	}
	return "", fmt.Errorf("unknown field %q", path)
}

// pairs is the form of a map in a downward API volume: key="value", one a line.
func pairs(m map[string]string) string {
	var lines []string
	for k, v := range m {
		lines = append(lines, fmt.Sprintf("%s=%q", k, v))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// node resources stand in for limits that are not set.
const (
	nodeCPUs   = "2"
	nodeMemory = "8589934592"
)

func resource(c *corev1.Container, r *corev1.ResourceFieldSelector) (string, error) {
	div := r.Divisor
	switch r.Resource {
	case "limits.cpu", "requests.cpu":
		q := c.Resources.Limits.Cpu()
		if r.Resource == "requests.cpu" {
			q = c.Resources.Requests.Cpu()
		}
		if q.IsZero() {
			return nodeCPUs, nil
		}
		unit := int64(1000)
		if !div.IsZero() {
			unit = div.MilliValue()
		}
		return fmt.Sprint((q.MilliValue() + unit - 1) / unit), nil
	case "limits.memory", "requests.memory":
		q := c.Resources.Limits.Memory()
		if r.Resource == "requests.memory" {
			q = c.Resources.Requests.Memory()
		}
		if q.IsZero() {
			return nodeMemory, nil
		}
		unit := int64(1)
		if !div.IsZero() {
			unit = div.Value()
		}
		return fmt.Sprint((q.Value() + unit - 1) / unit), nil
	}
	return "", fmt.Errorf("unknown resource %q", r.Resource)
}

// expand replaces $(NAME) by the variable; $$ is a dollar sign, an unknown name stays.
func expand(s string, vars map[string]string) string {
	if !strings.Contains(s, "$") {
		return s
	}
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '$' && i+1 < len(s) {
			switch s[i+1] {
			case '$':
				out.WriteByte('$')
				i++
				continue
			case '(':
				if end := strings.IndexByte(s[i:], ')'); end > 0 {
					name := s[i+2 : i+end]
					if v, ok := vars[name]; ok {
						out.WriteString(v)
					} else {
						out.WriteString(s[i : i+end+1])
					}
					i += end
					continue
				}
			}
		}
		out.WriteByte(s[i])
	}
	return out.String()
}

// files are what every pod finds in /etc.
func (w *worker) files(pod *corev1.Pod) map[string]string {
	search := "svc.cluster.local cluster.local"
	return map[string]string{
		"/etc/resolv.conf": fmt.Sprintf("nameserver %s\nsearch %s.%s %s\noptions ndots:5\n", sandbox.NodeIP, pod.Namespace, "svc.cluster.local", search),
		"/etc/hostname":    pod.Name + "\n",
		"/etc/hosts":       fmt.Sprintf("127.0.0.1\tlocalhost\n%s\t%s\n", w.net.IP, pod.Name),
		"/etc/passwd":      "root:x:0:0::/:/\n",
	}
}
