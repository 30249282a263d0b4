package provision

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"sigs.k8s.io/yaml"
)

// Keys of a parameter ConfigMap, as in Istio: each holds a strategic merge patch of
// the object of that kind, in YAML or JSON.
const (
	keyDeployment     = "deployment"
	keyService        = "service"
	keyServiceAccount = "serviceAccount"
	keyHPA            = "horizontalPodAutoscaler"
	keyPDB            = "podDisruptionBudget"
)

var parameterKeys = []string{keyDeployment, keyService, keyServiceAccount, keyHPA, keyPDB}

// none as the value of a key says that there is to be no such object.
const none = "none"

// optional are the keys that may be none.
var optional = []string{keyHPA, keyPDB}

// checkParameters reports keys that mean nothing, which is a slip more often than
// a comment.
func checkParameters(data map[string]string) error {
	for k := range data {
		if !slices.Contains(parameterKeys, k) {
			return fmt.Errorf("%q is none of %s", k, strings.Join(parameterKeys, ", "))
		}
	}
	return nil
}

// overlay lays patches, the least particular first, over an object in place. It
// reports false if the last one that says so wants none.
func overlay[T any](obj *T, key string, layers ...map[string]string) (bool, error) {
	wanted := true
	for _, data := range layers {
		text, ok := data[key]
		if !ok || strings.TrimSpace(text) == "" {
			continue
		}
		if slices.Contains(optional, key) && strings.TrimSpace(text) == none {
			wanted = false
			continue
		}
		wanted = true
		patch, err := yaml.YAMLToJSON([]byte(text))
		if err != nil {
			return false, fmt.Errorf("%s: %w", key, err)
		}
		if len(patch) == 0 || patch[0] != '{' {
			return false, fmt.Errorf("%s: is not an object", key)
		}
		base, err := json.Marshal(obj)
		if err != nil {
			return false, err
		}
		var schema T
		merged, err := strategicpatch.StrategicMergePatch(base, patch, &schema)
		if err != nil {
			return false, fmt.Errorf("%s: %w", key, err)
		}
		var out T
		if err := strict(merged, &out); err != nil {
			return false, fmt.Errorf("%s: %w", key, err)
		}
		*obj = out
	}
	return wanted, nil
}

// strict decodes and refuses fields that do not exist.
func strict(data []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	return d.Decode(into)
}
