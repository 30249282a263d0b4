package main

import (
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"waypoint.dev/waypoint/internal/demo"
)

func demoCommand() *cobra.Command {
	var o demo.Options
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run a whole small mesh on this machine and take a tour through it",
		Long: `demo starts a CA, node proxies that speak HBONE as ztunnel does, three pods of a
cart service and a waypoint, all on loopback; sends requests through them and
prints what became of each. It exits 0 only if every one went as expected.

With --keep, or KEEP=1, the mesh stays up and curl lines are printed.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			self, err := os.Executable()
			if err != nil {
				return err
			}
			o.Waypoint, o.Out = self, cmd.OutOrStdout()
			o.Keep = o.Keep || os.Getenv("KEEP") == "1"
			return demo.Run(ctx, o)
		},
	}
	cmd.Flags().StringVar(&o.Config, "config", "", "directory of manifests to run instead of the shop example's own copy")
	cmd.Flags().BoolVar(&o.Keep, "keep", false, "stay up after the tour")
	return cmd
}
