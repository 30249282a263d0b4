// Command waypoint is the L7 proxy of an Istio ambient mesh.
//
// This package holds flags, environment, signals and wiring; what they wire
// lives in the packages it imports.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"waypoint.dev/waypoint/internal/version"
)

// exit is an error that carries an exit code and was already reported.
type exit int

func (e exit) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

func main() {
	root := &cobra.Command{
		Use:   "waypoint",
		Short: "The L7 proxy of an Istio ambient mesh",
		Long: `waypoint takes HBONE tunnels from ztunnels, reads the HTTP inside, applies
routes and authorization policies, and tunnels on to the pods that serve it.

Start here:
  waypoint demo                  a whole small mesh on this machine, with a tour
  waypoint check DIR             what a directory of manifests would serve, and what is wrong with it
  waypoint explain ...           which route and policy decide one request, and why
  waypoint run --config DIR      serve a directory of manifests, reloaded on change
  waypoint proxy waypoint        serve what istiod says, in its own Deployment (docs/istio.md)`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       version.String(),
	}
	root.AddCommand(proxyCommand(), runCommand(), demoCommand(), checkCommand(), explainCommand(), versionCommand())
	if err := root.ExecuteContext(context.Background()); err != nil {
		var code exit
		if errors.As(err, &code) {
			os.Exit(int(code))
		}
		fmt.Fprintln(os.Stderr, "waypoint:", err)
		os.Exit(1)
	}
}

// arguments wants from low to high arguments, and says how the command is used where
// there are others.
func arguments(low, high int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if n := len(args); n < low || n > high {
			return fmt.Errorf("%d arguments: write %q (%s --help says more)", n, strings.TrimSuffix(cmd.UseLine(), " [flags]"), cmd.CommandPath())
		}
		return nil
	}
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		Run:   func(cmd *cobra.Command, _ []string) { fmt.Fprintln(cmd.OutOrStdout(), version.String()) },
	}
}
