package chart

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"

	// Their modules hold the definitions that the cluster is given.
	_ "istio.io/api/security/v1alpha1"
	_ "sigs.k8s.io/gateway-api/apis/v1"
)

// moduleFile is a file or folder of a module of this module's graph.
func moduleFile(module string, path ...string) (string, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	dir := strings.TrimSpace(string(out))
	if err != nil || dir == "" {
		return "", fmt.Errorf("module %s: %v", module, err)
	}
	return filepath.Join(append([]string{dir}, path...)...), nil
}

// istioDefinitions is the file of Istio's CustomResourceDefinitions.
func istioDefinitions() (string, error) {
	return moduleFile("istio.io/api", "kubernetes", "customresourcedefinitions.gen.yaml")
}
