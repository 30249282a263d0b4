package testmesh

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"

	"waypoint.dev/waypoint/identity"
)

// WorkloadAPI is a SPIFFE Workload API, as SPIRE's agent serves it, that says what a test
// gives it. It has one client at a time.
type WorkloadAPI struct {
	workload.UnimplementedSpiffeWorkloadAPIServer

	Path string // of its socket; fixed

	refuse  bool
	answers chan *workload.X509SVIDResponse
	dir     string
	server  *grpc.Server
	done    chan struct{}
}

// NewWorkloadAPI starts one on a socket of its own. One that refuses knows no workload.
func NewWorkloadAPI(refuse bool) (*WorkloadAPI, error) {
	dir, err := os.MkdirTemp("", "wp") // short: unix socket paths are at most 107 bytes
	if err != nil {
		return nil, err
	}
	a := &WorkloadAPI{Path: filepath.Join(dir, "socket"), refuse: refuse, answers: make(chan *workload.X509SVIDResponse, 2), dir: dir, server: grpc.NewServer(), done: make(chan struct{})}
	ln, err := net.Listen("unix", a.Path)
	if err != nil {
		os.RemoveAll(dir)
		return nil, fmt.Errorf("testmesh: workload API: %w", err)
	}
	workload.RegisterSpiffeWorkloadAPIServer(a.server, a)
	go func() { a.server.Serve(ln); close(a.done) }()
	return a, nil
}

// Close ends it.
func (a *WorkloadAPI) Close() {
	a.server.Stop()
	<-a.done
	os.RemoveAll(a.dir)
}

// Say makes an identity and the CA's roots those of the workload.
func (a *WorkloadAPI) Say(s *identity.SVID, ca *identity.CA) error {
	key, err := x509.MarshalPKCS8PrivateKey(s.Certificate.PrivateKey)
	if err != nil {
		return err
	}
	var chain, roots []byte
	for _, c := range s.Certificate.Certificate {
		chain = append(chain, c...)
	}
	for rest := ca.Bundle().PEM; ; {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			break
		}
		roots = append(roots, b.Bytes...)
	}
	a.answers <- &workload.X509SVIDResponse{Svids: []*workload.X509SVID{{SpiffeId: s.Principal.URI, X509Svid: chain, X509SvidKey: key, Bundle: roots}}}
	return nil
}

// FetchX509SVID implements workload.SpiffeWorkloadAPIServer.
func (a *WorkloadAPI) FetchX509SVID(_ *workload.X509SVIDRequest, s workload.SpiffeWorkloadAPI_FetchX509SVIDServer) error {
	if a.refuse {
		return grpcstatus.Error(codes.InvalidArgument, "no")
	}
	for {
		select {
		case r := <-a.answers:
			if err := s.Send(r); err != nil {
				return err
			}
		case <-s.Context().Done():
			return nil
		}
	}
}
