package provision

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"
)

// Labels of what is made.
const (
	labelGateway = "gateway.networking.k8s.io/gateway-name"
	labelClass   = "gateway.networking.k8s.io/gateway-class-name"
	// labelManaged tells istiod and us that this is a waypoint, whose own Service
	// and pods never have one.
	labelManaged = "gateway.istio.io/managed"
	managedValue = "istio.io-mesh-controller"
	// LabelManagedBy with ManagedBy marks what the controller made.
	LabelManagedBy = "app.kubernetes.io/managed-by"
	ManagedBy      = "waypoint-controller"
)

// Input is what one Gateway's objects are rendered from.
type Input struct {
	Gateway *Gateway
	// Class and Own are the parameters of the GatewayClass and of the Gateway, whose
	// count more; nil for none.
	Class, Own map[string]string
}

// Render returns the objects of a Gateway, in the order to apply them. An error is
// about the parameters.
func Render(s *Settings, in Input) ([]*unstructured.Unstructured, error) {
	r := renderer{Settings: s, gw: in.Gateway, layers: []map[string]string{in.Class, in.Own}}
	return r.objects()
}

type renderer struct {
	*Settings
	gw     *Gateway
	layers []map[string]string
}

func (r *renderer) objects() ([]*unstructured.Unstructured, error) {
	for _, l := range r.layers {
		if err := checkParameters(l); err != nil {
			return nil, err
		}
	}
	deployment, err := r.deployment()
	if err != nil {
		return nil, err
	}
	account := &corev1.ServiceAccount{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ServiceAccount"}, ObjectMeta: r.meta()}
	service := r.service()
	hpa, pdb := r.autoscaler(), r.budget()
	if _, err := overlay(account, keyServiceAccount, r.layers...); err != nil {
		return nil, err
	}
	if _, err := overlay(service, keyService, r.layers...); err != nil {
		return nil, err
	}
	if _, err := overlay(deployment, keyDeployment, r.layers...); err != nil {
		return nil, err
	}
	// A class may switch the autoscaler off and a Gateway on again, so it is
	// patched even where the settings have none.
	scaled, err := overlay(hpa, keyHPA, r.layers...)
	if err != nil {
		return nil, err
	}
	switch r.saidLast() {
	case keyHPA:
	case keyDeployment:
		scaled = false
	default:
		scaled = r.MaxReplicas > r.Replicas
	}
	budgeted, err := overlay(pdb, keyPDB, r.layers...)
	if err != nil {
		return nil, err
	}
	if scaled {
		deployment.Spec.Replicas = nil // the autoscaler's field
	}
	r.pin(deployment, service)
	trust := &corev1.ConfigMap{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"}, ObjectMeta: r.meta(),
		Data: map[string]string{trustFile: string(r.Roots)},
	}
	trust.Name = trustName(r.gw.Metadata.Name)
	all := []any{account, trust, service, deployment}
	if scaled {
		all = append(all, hpa)
	}
	if budgeted {
		all = append(all, pdb)
	}
	out := make([]*unstructured.Unstructured, 0, len(all))
	for _, o := range all {
		u, err := r.seal(o)
		if err != nil {
			return nil, err
		}
		out = append(out, u)
	}
	return out, nil
}

// pin takes back what is not for parameters to change: which pods they are, and as
// whom they run.
func (r *renderer) pin(d *appsv1.Deployment, s *corev1.Service) {
	d.Spec.Selector = &metav1.LabelSelector{MatchLabels: r.selector()}
	s.Spec.Selector = r.selector()
	t := &d.Spec.Template
	if t.Labels == nil {
		t.Labels = map[string]string{}
	}
	for _, k := range []string{labelGateway, labelClass, labelManaged, LabelManagedBy} {
		t.Labels[k] = r.labels()[k]
	}
	t.Labels["istio.io/dataplane-mode"] = "none"
	t.Spec.ServiceAccountName, t.Spec.DeprecatedServiceAccount = r.gw.Metadata.Name, ""
}

// saidLast returns which parameter says last how many replicas there are to be: that of
// the autoscaler, or that of the Deployment by its replicas; empty if none does. Who asks
// for a number of replicas, as one does under Istio, which makes no autoscaler of its own
// accord, gets that number.
func (r *renderer) saidLast() string {
	for _, l := range slices.Backward(r.layers) {
		if strings.TrimSpace(l[keyHPA]) != "" {
			return keyHPA
		}
		var d struct {
			Spec struct {
				Replicas *int32 `json:"replicas"`
			} `json:"spec"`
		}
		// A patch that cannot be read was refused before.
		if yaml.Unmarshal([]byte(l[keyDeployment]), &d) == nil && d.Spec.Replicas != nil {
			return keyDeployment
		}
	}
	return ""
}

func (r *renderer) labels() map[string]string {
	out := map[string]string{}
	if i := r.gw.Spec.Infrastructure; i != nil {
		maps.Copy(out, i.Labels)
	}
	out[labelGateway] = r.gw.Metadata.Name
	out[labelClass] = r.gw.Spec.GatewayClassName
	out[labelManaged] = managedValue
	out[LabelManagedBy] = ManagedBy
	return out
}

func (r *renderer) annotations() map[string]string {
	out := map[string]string{}
	if i := r.gw.Spec.Infrastructure; i != nil {
		maps.Copy(out, i.Annotations)
	}
	return out
}

func (r *renderer) meta() metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: r.gw.Metadata.Name, Namespace: r.gw.Metadata.Namespace, Labels: r.labels(), Annotations: r.annotations()}
}

func (r *renderer) selector() map[string]string {
	return map[string]string{labelGateway: r.gw.Metadata.Name}
}

// trustName is the ConfigMap by which a Gateway's waypoint knows the controller.
func trustName(gateway string) string { return gateway + "-waypoint-controller-ca" }

// seal turns an object into what is applied. Name, namespace, owner and the labels
// by which it is found again are not for parameters to change.
func (r *renderer) seal(obj any) (*unstructured.Unstructured, error) {
	data, err := json.Marshal(obj)
	if err != nil {
		return nil, err
	}
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON(data); err != nil {
		return nil, err
	}
	delete(u.Object, "status")
	if u.GetKind() == "ConfigMap" {
		u.SetName(trustName(r.gw.Metadata.Name))
	} else {
		u.SetName(r.gw.Metadata.Name)
	}
	u.SetNamespace(r.gw.Metadata.Namespace)
	labels := u.GetLabels()
	if labels == nil {
		labels = map[string]string{}
	}
	for _, k := range []string{labelGateway, labelClass, labelManaged, LabelManagedBy} {
		labels[k] = r.labels()[k]
	}
	u.SetLabels(labels)
	yes := true
	u.SetOwnerReferences([]metav1.OwnerReference{{
		APIVersion: gatewayGroup + "/v1", Kind: "Gateway", Name: r.gw.Metadata.Name, UID: r.gw.Metadata.UID,
		Controller: &yes, BlockOwnerDeletion: &yes,
	}})
	if len(u.GetAnnotations()) == 0 {
		u.SetAnnotations(nil)
	}
	return u, nil
}

func (r *renderer) service() *corev1.Service {
	app := func(s string) *string { return &s }
	dual := corev1.IPFamilyPolicyPreferDualStack
	close := "PreferClose" // a waypoint of one's own zone, as Istio's template asks
	return &corev1.Service{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Service"}, ObjectMeta: r.meta(),
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeClusterIP, IPFamilyPolicy: &dual, Selector: r.selector(), TrafficDistribution: &close,
			Ports: []corev1.ServicePort{
				{Name: "status-port", Port: 15021, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromInt32(15021), AppProtocol: app("tcp")},
				{Name: "mesh", Port: hbonePort, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromInt32(hbonePort), AppProtocol: app("hbone")},
			},
		},
	}
}

func (r *renderer) autoscaler() *autoscalingv2.HorizontalPodAutoscaler {
	percent := r.CPUPercent
	if percent == 0 {
		percent = 80 // as in Istio's gateways
	}
	replicas := r.Replicas
	return &autoscalingv2.HorizontalPodAutoscaler{
		TypeMeta: metav1.TypeMeta{APIVersion: "autoscaling/v2", Kind: "HorizontalPodAutoscaler"}, ObjectMeta: r.meta(),
		Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
			ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: r.gw.Metadata.Name},
			MinReplicas:    &replicas, MaxReplicas: max(r.MaxReplicas, r.Replicas),
			Metrics: []autoscalingv2.MetricSpec{{
				Type: autoscalingv2.ResourceMetricSourceType,
				Resource: &autoscalingv2.ResourceMetricSource{Name: corev1.ResourceCPU,
					Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: &percent}},
			}},
		},
	}
}

func (r *renderer) budget() *policyv1.PodDisruptionBudget {
	one := intstr.FromInt32(1)
	always := policyv1.AlwaysAllow // a replica that is not ready serves nobody
	return &policyv1.PodDisruptionBudget{
		TypeMeta: metav1.TypeMeta{APIVersion: "policy/v1", Kind: "PodDisruptionBudget"}, ObjectMeta: r.meta(),
		Spec: policyv1.PodDisruptionBudgetSpec{
			// One at a time, so that a single replica can be moved too.
			MaxUnavailable: &one, UnhealthyPodEvictionPolicy: &always,
			Selector: &metav1.LabelSelector{MatchLabels: r.selector()},
		},
	}
}

func (r *renderer) deployment() (*appsv1.Deployment, error) {
	pod, err := r.pod()
	if err != nil {
		return nil, err
	}
	replicas := r.Replicas
	surge, zero := intstr.FromInt32(1), intstr.FromInt32(0)
	labels := r.labels()
	labels["istio.io/dataplane-mode"] = "none" // ztunnel must not take what is meant for it
	labels["sidecar.istio.io/inject"] = "false"
	labels["service.istio.io/canonical-name"] = r.gw.Metadata.Name
	labels["service.istio.io/canonical-revision"] = "latest"
	if r.Mesh.Network != "" && labels["topology.istio.io/network"] == "" {
		labels["topology.istio.io/network"] = r.Mesh.Network
	}
	annotations := map[string]string{
		"prometheus.io/scrape": "true", "prometheus.io/port": strconv.Itoa(metricsPort), "prometheus.io/path": "/stats/prometheus",
	}
	maps.Copy(annotations, r.annotations())
	return &appsv1.Deployment{
		TypeMeta: metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"}, ObjectMeta: r.meta(),
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas,
			Selector: &metav1.LabelSelector{MatchLabels: r.selector()},
			// A new replica serves before an old one goes.
			Strategy: appsv1.DeploymentStrategy{Type: appsv1.RollingUpdateDeploymentStrategyType,
				RollingUpdate: &appsv1.RollingUpdateDeployment{MaxSurge: &surge, MaxUnavailable: &zero}},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels, Annotations: annotations}, Spec: *pod},
		},
	}, nil
}

var errNoRoots = fmt.Errorf("the controller has no certificate yet")
