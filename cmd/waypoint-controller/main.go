// Command waypoint-controller is the control plane of waypoints outside Istio's: it
// feeds them Kubernetes objects, runs them for Gateways of its class, and writes
// status.
//
// This package holds flags, environment, signals and wiring; what they wire lives
// in package controller.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"

	"waypoint.dev/waypoint/controller"
	"waypoint.dev/waypoint/internal/version"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "waypoint-controller:", err)
		os.Exit(1)
	}
}

func command() *cobra.Command {
	var f flags
	cmd := &cobra.Command{
		Use:   "waypoint-controller",
		Short: "Runs and configures waypoints in Kubernetes",
		Long: `waypoint-controller watches Gateway API, Istio policies, services and
endpoints, and
  - feeds each waypoint the objects that concern it (waypoint run --xds),
  - makes a Deployment, Service and what belongs to them for each Gateway of a
    GatewayClass with controllerName waypoint.dev/gateway-controller,
  - writes the status of Gateways, routes and policies.
Install it with the chart of deploy/chart (docs/controller.md).`,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       version.String(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o, err := f.options()
			if err != nil {
				return err
			}
			klog.SetSlogLogger(o.Log)
			c, err := f.clients()
			if err != nil {
				return err
			}
			o.Core, o.Dynamic = c.core, c.dynamic
			limitMemory()
			return controller.Run(cmd.Context(), o)
		},
	}
	f.register(cmd.Flags())
	return cmd
}

type clients struct {
	core    kubernetes.Interface
	dynamic dynamic.Interface
}

// clients connect to the API server of the pod's own cluster, or of a kubeconfig.
func (f *flags) clients() (*clients, error) {
	var c *rest.Config
	var err error
	if f.kubeconfig != "" {
		c, err = clientcmd.BuildConfigFromFlags("", f.kubeconfig)
	} else if c, err = rest.InClusterConfig(); err != nil {
		err = fmt.Errorf("%w (outside a cluster: --kubeconfig)", err)
	}
	if err != nil {
		return nil, err
	}
	c.UserAgent = "waypoint-controller/" + version.String()
	// Status writes have a limit of their own; this one is for the rest.
	c.QPS, c.Burst = 100, 200
	// A deprecation is told with each write; once is enough.
	c.WarningHandler = rest.NewWarningWriter(os.Stderr, rest.WarningWriterOptions{Deduplicate: true})
	out := &clients{}
	if out.dynamic, err = dynamic.NewForConfig(c); err != nil {
		return nil, err
	}
	// Built-in kinds come as protobuf, several times cheaper to read than JSON.
	p := rest.CopyConfig(c)
	p.AcceptContentTypes, p.ContentType = "application/vnd.kubernetes.protobuf,application/json", "application/vnd.kubernetes.protobuf"
	out.core, err = kubernetes.NewForConfig(p)
	return out, err
}
