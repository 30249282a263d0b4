package chart

import (
	"os/exec"
	"path/filepath"
	"strings"
)

// istioDefinitions is the file of Istio's CustomResourceDefinitions.
func istioDefinitions() (string, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "istio.io/api").Output()
	return filepath.Join(strings.TrimSpace(string(out)), "kubernetes", "customresourcedefinitions.gen.yaml"), err
}
