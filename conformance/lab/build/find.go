package build

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"runtime"
)

// Folders are the root of the repository that this source is of, and where built
// binaries and the logs of runs are kept.
func Folders() (repo, cache string) {
	_, here, _, _ := runtime.Caller(0) // conformance/lab/build/find.go
	repo = filepath.Join(filepath.Dir(here), "..", "..", "..")
	return repo, filepath.Join(repo, "conformance", ".cache")
}

// Module is a path in a module that the one of the working directory requires. It is
// downloaded where it is not yet.
func Module(module string, path ...string) (string, error) {
	var out, errs bytes.Buffer
	cmd := exec.Command("go", "mod", "download", "-json", module)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("build: module %s: %w: %s", module, err, errs.String())
	}
	var m struct{ Dir string }
	if err := json.Unmarshal(out.Bytes(), &m); err != nil {
		return "", fmt.Errorf("build: module %s: %w", module, err)
	}
	return filepath.Join(append([]string{m.Dir}, path...)...), nil
}
