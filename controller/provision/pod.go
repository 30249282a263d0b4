package provision

import (
	"path"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

const (
	containerName = "waypoint"
	metricsPort   = 15020
	readyPort     = 15021
	// proxyUser is Istio's, and the image's.
	proxyUser = 1337
	// grace covers the flags' defaults: 5 s in which tunnels are still taken, 20 s
	// for requests to end, and 5 s to spare before the kubelet kills.
	grace = 30
	// tokenLife is Istio's; the kubelet renews at four fifths.
	tokenLife = 43200

	secrets   = "/var/run/secrets/waypoint"
	trustFile = "ca.crt"
)

// pod is the template of a waypoint's pods.
func (r *renderer) pod() (*corev1.PodSpec, error) {
	yes, no := true, false
	user, period := int64(proxyUser), int64(grace)
	ns, name := r.gw.Metadata.Namespace, r.gw.Metadata.Name
	args := []string{
		"run",
		"--xds=" + r.Controller,
		"--xds-roots=" + path.Join(secrets, "controller", trustFile),
		"--xds-token=" + path.Join(secrets, "token", "token"),
		"--waypoint=" + ns + "/" + name,
		"--node=$(NODE_NAME)",
		"--trust-domain=" + r.Mesh.TrustDomain,
		"--root-namespace=" + r.Mesh.RootNamespace,
		"--domain=" + r.Mesh.Domain,
		"--cluster-id=" + r.Mesh.ClusterID,
	}
	if r.ServerName != "" {
		args = append(args, "--xds-server-name="+r.ServerName)
	}
	for _, a := range r.Mesh.TrustAliases {
		args = append(args, "--trust-domain-alias="+a)
	}
	if r.Mesh.Network != "" {
		args = append(args, "--network="+r.Mesh.Network)
	}
	volumes := []corev1.Volume{
		{Name: "controller-ca", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: trustName(name)}}}},
		projected("token", r.Audience),
	}
	mounts := []corev1.VolumeMount{
		{Name: "controller-ca", MountPath: path.Join(secrets, "controller"), ReadOnly: true},
		{Name: "token", MountPath: path.Join(secrets, "token"), ReadOnly: true},
	}
	more, v, m, err := r.identity()
	if err != nil {
		return nil, err
	}
	args, volumes, mounts = append(args, more...), append(volumes, v...), append(mounts, m...)
	args = append(args, r.Args...)
	spread := func(key string) corev1.TopologySpreadConstraint {
		return corev1.TopologySpreadConstraint{
			MaxSkew: 1, TopologyKey: key, WhenUnsatisfiable: corev1.ScheduleAnyway,
			LabelSelector: &metav1.LabelSelector{MatchLabels: r.selector()}, MatchLabelKeys: []string{"pod-template-hash"},
		}
	}
	return &corev1.PodSpec{
		ServiceAccountName:            name,
		AutomountServiceAccountToken:  &no, // it asks nothing of the API server
		TerminationGracePeriodSeconds: &period,
		SecurityContext: &corev1.PodSecurityContext{
			RunAsNonRoot: &yes, RunAsUser: &user, RunAsGroup: &user, FSGroup: &user,
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
		TopologySpreadConstraints: []corev1.TopologySpreadConstraint{spread("topology.kubernetes.io/zone"), spread("kubernetes.io/hostname")},
		Volumes:                   volumes,
		Containers: []corev1.Container{{
			Name: containerName, Image: r.Image, ImagePullPolicy: r.PullPolicy, Args: args,
			Env: []corev1.EnvVar{
				field("POD_NAME", "metadata.name"), field("POD_NAMESPACE", "metadata.namespace"),
				field("INSTANCE_IP", "status.podIP"), field("NODE_NAME", "spec.nodeName"),
				{Name: "GOMEMLIMIT", ValueFrom: &corev1.EnvVarSource{ResourceFieldRef: &corev1.ResourceFieldSelector{Resource: "limits.memory"}}},
			},
			Ports: []corev1.ContainerPort{
				{Name: "hbone", ContainerPort: hbonePort, Protocol: corev1.ProtocolTCP},
				{Name: "metrics", ContainerPort: metricsPort, Protocol: corev1.ProtocolTCP},
				{Name: "status-port", ContainerPort: readyPort, Protocol: corev1.ProtocolTCP},
				{Name: "http-envoy-prom", ContainerPort: 15090, Protocol: corev1.ProtocolTCP},
			},
			// Istio's defaults for a waypoint (values global.waypoint.resources), without
			// its CPU limit: throttling shows as latency of the whole namespace.
			Resources: corev1.ResourceRequirements{
				Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m"), corev1.ResourceMemory: resource.MustParse("128Mi")},
				Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("1Gi")},
			},
			VolumeMounts: mounts,
			SecurityContext: &corev1.SecurityContext{
				RunAsNonRoot: &yes, Privileged: &no, AllowPrivilegeEscalation: &no, ReadOnlyRootFilesystem: &yes,
				Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
			},
			StartupProbe:   ready(1, 120),
			ReadinessProbe: ready(5, 3),
		}},
	}, nil
}

// identity is how the pods get their mesh certificate.
func (r *renderer) identity() (args []string, volumes []corev1.Volume, mounts []corev1.VolumeMount, err error) {
	i := &r.Identity
	dir := path.Join(secrets, "identity")
	switch i.Mode {
	case IdentityIstiod:
		args = []string{"--ca=" + i.CAAddress, "--ca-token=" + path.Join(secrets, "ca-token", "token")}
		volumes = append(volumes, projected("ca-token", or(i.CAAudience, "istio-ca")))
		mounts = append(mounts, corev1.VolumeMount{Name: "ca-token", MountPath: path.Join(secrets, "ca-token"), ReadOnly: true})
		args = append(args, "--roots="+path.Join(dir, "root-cert.pem"))
		volumes = append(volumes, corev1.Volume{Name: "identity", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
			LocalObjectReference: corev1.LocalObjectReference{Name: or(i.CARoots, "istio-ca-root-cert")}}}})
	case IdentitySPIFFE:
		args = []string{"--workload-api=" + path.Join(dir, or(i.Socket, "socket"))}
	case IdentityFiles:
		args = []string{"--cert=" + path.Join(dir, or(i.Cert, "tls.crt")), "--key=" + path.Join(dir, or(i.Key, "tls.key")), "--roots=" + path.Join(dir, or(i.CAFile, "ca.crt"))}
	}
	if i.Mode != IdentityIstiod {
		source, err := i.source(r.gw.Metadata.Namespace, r.gw.Metadata.Name)
		if err != nil {
			return nil, nil, nil, err
		}
		volumes = append(volumes, corev1.Volume{Name: "identity", VolumeSource: source})
	}
	return args, volumes, append(mounts, corev1.VolumeMount{Name: "identity", MountPath: dir, ReadOnly: true}), nil
}

func or(s, def string) string {
	if strings.TrimSpace(s) == "" {
		return def
	}
	return s
}

func projected(name, audience string) corev1.Volume {
	life := int64(tokenLife)
	return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
		Sources: []corev1.VolumeProjection{{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Audience: audience, ExpirationSeconds: &life, Path: "token"}}},
	}}}
}

func field(name, path string) corev1.EnvVar {
	return corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: path}}}
}

func ready(period, failures int32) *corev1.Probe {
	return &corev1.Probe{
		ProbeHandler:  corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/healthz/ready", Port: intstr.FromInt32(readyPort), Scheme: corev1.URISchemeHTTP}},
		PeriodSeconds: period, FailureThreshold: failures, TimeoutSeconds: 3, SuccessThreshold: 1,
	}
}
