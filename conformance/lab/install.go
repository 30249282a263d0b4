package lab

import (
	"context"
	"fmt"
	"maps"
	"path"
	"strings"

	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/releaseutil"
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

const (
	// ControllerNamespace and ControllerName are where and as what the chart is installed.
	ControllerNamespace = "waypoint-system"
	ControllerName      = "waypoint-controller"
)

// Render renders a chart as `helm install` does, in the order in which objects are to be
// created. Its CRDs are not part of that.
func Render(dir string, values map[string]any) (string, error) {
	files, err := templates(dir, values)
	if err != nil {
		return "", err
	}
	maps.DeleteFunc(files, func(name, _ string) bool { return !strings.HasSuffix(name, ".yaml") })
	_, manifests, err := releaseutil.SortManifests(files, nil, releaseutil.InstallOrder)
	if err != nil {
		return "", fmt.Errorf("lab: chart: %w", err)
	}
	var out strings.Builder
	for _, m := range manifests {
		out.WriteString("---\n" + m.Content + "\n")
	}
	return out.String(), nil
}

// Notes renders what `helm install` tells in the end.
func Notes(dir string, values map[string]any) (string, error) {
	files, err := templates(dir, values)
	if err != nil {
		return "", err
	}
	for name, text := range files {
		if path.Base(name) == "NOTES.txt" {
			return text, nil
		}
	}
	return "", fmt.Errorf("lab: chart: no NOTES.txt")
}

// templates renders a chart's templates by name. Values are held against its schema.
func templates(dir string, values map[string]any) (map[string]string, error) {
	c, err := loader.LoadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("lab: chart: %w", err)
	}
	vals, err := chartutil.ToRenderValues(c, values, chartutil.ReleaseOptions{
		Name: ControllerName, Namespace: ControllerNamespace, Revision: 1, IsInstall: true,
	}, chartutil.DefaultCapabilities)
	if err != nil {
		return nil, fmt.Errorf("lab: chart: %w", err)
	}
	files, err := engine.Render(c, vals)
	if err != nil {
		return nil, fmt.Errorf("lab: chart: %w", err)
	}
	return files, nil
}

// InstallController installs the waypoint's controller by its chart, with certificates for
// waypoints from [DriverSPIFFE], and waits until it is ready. Values are laid over those
// that the lab needs.
func (l *Lab) InstallController(ctx context.Context, chart string, values map[string]any) error {
	base := map[string]any{
		"image":    map[string]any{"repository": ImageWaypoint},
		"identity": map[string]any{"mode": "files"},
	}
	manifests, err := Render(chart, chartutil.CoalesceTables(values, base))
	if err != nil {
		return err
	}
	if _, err := l.Apply(ctx, "{apiVersion: v1, kind: Namespace, metadata: {name: "+ControllerNamespace+"}}"); err != nil {
		return err
	}
	if _, err := l.Apply(ctx, manifests); err != nil {
		return err
	}
	return l.WaitDeployment(ctx, ControllerNamespace, ControllerName)
}

var gatewayKind = schema.GroupVersionKind{Group: "gateway.networking.k8s.io", Version: "v1", Kind: "Gateway"}

// WaitGateway waits until a Gateway is programmed and its waypoint is ready.
func (l *Lab) WaitGateway(ctx context.Context, namespace, name string) error {
	if err := Wait(ctx, "Gateway "+namespace+"/"+name, func() (bool, error) {
		gw, err := l.Get(ctx, gatewayKind, namespace, name)
		if err != nil {
			return false, err
		}
		return ConditionTrue(gw.Object, "Programmed"), nil
	}); err != nil {
		return err
	}
	return l.WaitDeployment(ctx, namespace, name)
}

// WaitDeployment waits until every replica of a Deployment's newest template is ready, and
// no other is left.
func (l *Lab) WaitDeployment(ctx context.Context, namespace, name string) error {
	var d *appsv1.Deployment
	err := Wait(ctx, "Deployment "+namespace+"/"+name, func() (ok bool, err error) {
		if d, err = l.Client.AppsV1().Deployments(namespace).Get(ctx, name, metav1.GetOptions{}); err != nil {
			return false, err
		}
		want := int32(1)
		if d.Spec.Replicas != nil {
			want = *d.Spec.Replicas
		}
		s := &d.Status
		return s.ObservedGeneration >= d.Generation && s.UpdatedReplicas == want && s.Replicas == want && s.ReadyReplicas == want, nil
	})
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w%s", err, l.why(namespace))
}

// why tells what the pods of a namespace wait for.
func (l *Lab) why(namespace string) string {
	pods, err := l.Client.CoreV1().Pods(namespace).List(context.Background(), metav1.ListOptions{})
	if err != nil {
		return ""
	}
	var out strings.Builder
	for _, p := range pods.Items {
		fmt.Fprintf(&out, "; pod %s: %s %s", p.Name, p.Status.Phase, p.Status.Message)
		for _, c := range p.Status.ContainerStatuses {
			switch {
			case c.State.Waiting != nil:
				fmt.Fprintf(&out, ", %s waits: %s", c.Name, c.State.Waiting.Message)
			case c.State.Terminated != nil:
				fmt.Fprintf(&out, ", %s ended with %d", c.Name, c.State.Terminated.ExitCode)
			case !c.Ready:
				fmt.Fprintf(&out, ", %s is not ready", c.Name)
			}
		}
	}
	return out.String()
}
