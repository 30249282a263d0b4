package kubelet

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"waypoint.dev/waypoint/conformance/lab/sandbox"
)

// report writes the pod's status if it changed.
func (w *worker) report(ctx context.Context) {
	pod := w.current()
	status := w.status(pod)
	patch, err := json.Marshal(map[string]any{"metadata": podUID(w.uid), "status": status})
	if err != nil || string(patch) == w.reported {
		return
	}
	_, err = w.k.cfg.Client.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	switch {
	case err == nil:
		w.reported = string(patch)
	case apierrors.IsNotFound(err), ctx.Err() != nil:
	default:
		w.k.cfg.Log.Error("status of a pod cannot be written", "pod", w.name, "error", err)
		time.AfterFunc(errRetry, w.poke)
	}
}

// annotate adds what the CNI plugin says of a pod.
func (w *worker) annotate(ctx context.Context, pod *corev1.Pod, notes map[string]string) error {
	meta := podUID(w.uid)
	meta["annotations"] = notes
	patch, err := json.Marshal(map[string]any{"metadata": meta})
	if err != nil {
		return err
	}
	_, err = w.k.cfg.Client.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.MergePatchType, patch, metav1.PatchOptions{})
	return err
}

func (w *worker) status(pod *corev1.Pod) corev1.PodStatus {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := corev1.PodStatus{
		Phase: corev1.PodPending, HostIP: sandbox.NodeIP, HostIPs: []corev1.HostIP{{IP: sandbox.NodeIP}},
		StartTime: &w.started, Message: w.waiting,
	}
	if w.ip != "" {
		s.PodIP, s.PodIPs = w.ip, []corev1.PodIP{{IP: w.ip}}
	}
	ready := w.waiting == "" && len(w.containers) > 0
	for _, c := range w.containers {
		cs := c.status()
		ready = ready && cs.Ready
		s.ContainerStatuses = append(s.ContainerStatuses, cs)
		s.Phase = corev1.PodRunning
	}
	if s.Phase == corev1.PodPending {
		for _, c := range pod.Spec.Containers {
			s.ContainerStatuses = append(s.ContainerStatuses, corev1.ContainerStatus{Name: c.Name, Image: c.Image, State: corev1.ContainerState{
				Waiting: &corev1.ContainerStateWaiting{Reason: "ContainerCreating", Message: w.waiting},
			}})
		}
	}
	initialized := s.Phase == corev1.PodRunning
	for _, c := range []struct {
		t  corev1.PodConditionType
		is bool
	}{
		{corev1.PodScheduled, true}, {corev1.PodInitialized, initialized},
		{corev1.ContainersReady, ready}, {corev1.PodReady, ready},
	} {
		s.Conditions = append(s.Conditions, condition(pod, c.t, c.is))
	}
	return s
}

// condition keeps the time of the last transition where there was none.
func condition(pod *corev1.Pod, t corev1.PodConditionType, is bool) corev1.PodCondition {
	c := corev1.PodCondition{Type: t, Status: corev1.ConditionFalse, LastTransitionTime: metav1.Now()}
	if is {
		c.Status = corev1.ConditionTrue
	}
	i := slices.IndexFunc(pod.Status.Conditions, func(o corev1.PodCondition) bool { return o.Type == t })
	if i >= 0 && pod.Status.Conditions[i].Status == c.Status {
		c.LastTransitionTime = pod.Status.Conditions[i].LastTransitionTime
	}
	return c
}

func (c *container) status() corev1.ContainerStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	started := c.proc != nil
	return corev1.ContainerStatus{
		Name: c.spec.Name, Image: c.spec.Image, Ready: started && c.ready.Load(), Started: &started,
		RestartCount: c.restarts, State: c.state, LastTerminationState: c.last,
	}
}
