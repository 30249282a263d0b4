package main

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/spf13/pflag"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestFlagsAreDocumented holds the guide's list of flags together with the flags.
func TestFlagsAreDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../docs/controller.md")
	if err != nil {
		t.Fatal(err)
	}
	command().Flags().VisitAll(func(f *pflag.Flag) {
		if !strings.Contains(string(doc), "`--"+f.Name+"`") {
			t.Errorf("docs/controller.md does not name --%s", f.Name)
		}
		if f.Usage == "" {
			t.Errorf("--%s has no usage", f.Name)
		}
	})
}

func TestHelp(t *testing.T) {
	cmd := command()
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetArgs([]string{"--help"})
	if err := cmd.Execute(); err != nil || !strings.Contains(out.String(), "--waypoint-image") {
		t.Errorf("%v\n%s", err, out.String())
	}
}

func TestBadFlags(t *testing.T) {
	t.Setenv("POD_NAMESPACE", "")
	for _, args := range [][]string{
		{}, {"--namespace=x", "--log-level=loud"}, {"--namespace=x", "--log-format=xml"}, {"--namespace=x", "--waypoint-pull-policy=Sometimes"},
		{"--namespace=x", "--kubeconfig=/nowhere"}, {"argument"},
	} {
		cmd := command()
		cmd.SetArgs(args)
		if err := cmd.Execute(); err == nil {
			t.Errorf("%v: taken", args)
		}
	}
}
