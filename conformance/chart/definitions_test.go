package chart

import (
	// Their modules hold the definitions that the cluster is given.
	_ "istio.io/api/security/v1alpha1"
	_ "sigs.k8s.io/gateway-api/apis/v1"

	"waypoint.dev/waypoint/conformance/lab/build"
)

// istioDefinitions is the file of Istio's CustomResourceDefinitions.
func istioDefinitions() (string, error) {
	return build.Module("istio.io/api", "kubernetes", "customresourcedefinitions.gen.yaml")
}
