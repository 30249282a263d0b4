package main

import (
	"errors"
	"fmt"
	"net/http"
	"os"

	"github.com/spf13/cobra"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/config/kube"
	"waypoint.dev/waypoint/proxy"
	"waypoint.dev/waypoint/proxy/stages"
)

// noKeys is a client of key servers that asks none.
type noKeys struct{}

func (noKeys) Do(*http.Request) (*http.Response, error) { return nil, errors.ErrUnsupported }

func checkCommand() *cobra.Command {
	var (
		mesh          meshFlags
		quiet, status bool
	)
	cmd := &cobra.Command{
		Use:   "check DIR",
		Short: "Say what a directory of manifests would serve, and what is wrong with it",
		Long: `check reads manifests as the waypoint and the API server read them, prints what
would be served, and every object that is refused, ignored, or does less than it
seems to. It exits 1 if there is an error among them.`,
		Args: arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := mesh.options()
			if err != nil {
				return err
			}
			if _, err := os.ReadDir(args[0]); err != nil {
				return err
			}
			objs, err := kube.LoadDir(args[0])
			b := kube.NewBuilder(o)
			m := b.Build(objs)
			// Compiled as run compiles it, tokens and authorizers included, but keys are
			// not fetched: check sends nothing.
			store := new(config.Store)
			run := stages.New(stages.Options{Store: store, Keys: noKeys{}})
			defer run.Close()
			_, compiled := config.Compile(m, nil, config.Env{State: proxy.BackendState, Stage: run.Compile})
			objs.Locate(compiled)
			m.Problems = append(m.Problems, compiled...)
			out := cmd.OutOrStdout()
			refused := 0
			for _, p := range m.Problems {
				if p.Severity == config.Error {
					refused++
				}
			}
			if quiet {
				for _, p := range m.Problems {
					fmt.Fprintln(out, kube.ProblemLine(p))
				}
			} else {
				kube.Print(out, m)
			}
			if status {
				b.Statuses().Print(out)
			}
			if err != nil && refused == 0 {
				return err
			}
			if refused > 0 {
				return fmt.Errorf("errors: %d; what they name does not work as written", refused)
			}
			if len(m.Destinations) == 0 {
				return errors.New("nothing would be served: no service or pod uses this waypoint (label it or its namespace istio.io/use-waypoint)")
			}
			return nil
		},
	}
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print problems only")
	cmd.Flags().BoolVar(&status, "status", false, "print the status conditions of routes and policies too")
	mesh.register(cmd.Flags())
	return cmd
}
