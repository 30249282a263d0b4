package feed

import (
	"context"
	"log/slog"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"

	"waypoint.dev/waypoint/config"
)

// Options of a Server; Verify is required.
type Options struct {
	// Verify checks a service account's token and returns whose it is. It is asked
	// once a stream.
	Verify func(ctx context.Context, token string) (namespace, serviceAccount string, err error)

	// Account returns the service account that the waypoints of a Gateway run as;
	// nil: that of the Gateway's name, in its namespace, as the provisioner makes it.
	Account func(gw config.Owner) (serviceAccount string)

	// RootNamespace and Domain are the mesh's; empty: istio-system, cluster.local.
	RootNamespace string
	Domain        string

	Log *slog.Logger // nil: none
}

// Server sends objects to waypoints.
type Server struct {
	discovery.UnimplementedAggregatedDiscoveryServiceServer
	opts  Options
	store *Store
}

// New returns a server of the store's objects.
func New(store *Store, o Options) *Server { return &Server{store: store, opts: o} }

// Register adds the service to g, whose credentials must be TLS.
func (s *Server) Register(g *grpc.Server) {
	discovery.RegisterAggregatedDiscoveryServiceServer(g, s)
}
