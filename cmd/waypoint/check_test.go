package main

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"
)

func checkOf(args ...string) (string, error) {
	cmd := checkCommand()
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SetArgs(args)
	cmd.SilenceUsage, cmd.SilenceErrors = true, true
	err := cmd.Execute()
	return out.String(), err
}

// The examples hold every kind of stage, and nothing of them is wrong.
func TestCheckExamples(t *testing.T) {
	dirs, err := filepath.Glob("../../examples/*/mesh.yaml")
	if err != nil || len(dirs) < 10 {
		t.Fatal(dirs, err)
	}
	for _, d := range dirs {
		if out, err := checkOf(filepath.Dir(d)); err != nil || strings.Contains(out, "error:") {
			t.Errorf("%s: %v\n%s", filepath.Dir(d), err, out)
		}
	}
}
