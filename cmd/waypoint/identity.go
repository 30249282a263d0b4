package main

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"os"

	"github.com/spf13/pflag"

	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/identity"
	"waypoint.dev/waypoint/identity/istioca"
	"waypoint.dev/waypoint/identity/spiffeapi"
	"waypoint.dev/waypoint/xds"
)

// identityFlags say where the waypoint's mesh certificate comes from.
type identityFlags struct {
	cert, key, roots            string
	ca, caName, caToken, socket string
	account                     string
}

func (f *identityFlags) register(fs *pflag.FlagSet) {
	fs.StringVar(&f.cert, "cert", "", "certificate chain, PEM, followed")
	fs.StringVar(&f.key, "key", "", "private key, PEM, followed")
	fs.StringVar(&f.roots, "roots", "", "trusted roots of the mesh, PEM, followed")
	fs.StringVar(&f.ca, "ca", "", "host:port of a CA that speaks istiod's protocol, in place of --cert and --key; --roots verifies it")
	fs.StringVar(&f.caName, "ca-server-name", "", "name in the CA's certificate (default: the host of --ca)")
	fs.StringVar(&f.caToken, "ca-token", "", "service account token for the CA, read again for each request")
	fs.StringVar(&f.account, "service-account", "", "service account of this waypoint, for --ca (default: the Gateway's name)")
	fs.StringVar(&f.socket, "workload-api", "", "socket of a SPIFFE Workload API, in place of all these")
}

func (f *identityFlags) check(gw config.Owner) error {
	switch {
	case f.socket != "" && f.cert+f.key+f.ca != "" || f.ca != "" && f.cert+f.key != "":
		return errors.New("--cert with --key, --ca and --workload-api are three sources of one identity: give one")
	case f.socket != "":
		return nil
	case f.ca != "" && (f.caToken == "" || f.roots == ""):
		return errors.New("--ca-token and --roots are required with --ca: the token proves this waypoint, the roots the CA")
	case f.ca != "" && gw.Name == "":
		return errors.New("--waypoint is required with --ca: it names the identity")
	case f.ca == "" && (f.cert == "" || f.key == "" || f.roots == ""):
		return errors.New("--cert, --key and --roots are required (or --ca, or --workload-api): the waypoint proves its SPIFFE identity in every tunnel")
	}
	return nil
}

// open waits for the first certificate.
func (f *identityFlags) open(ctx context.Context, mesh *meshFlags, gw config.Owner, log *slog.Logger) (identity.Source, error) {
	domains := append([]string{mesh.trustDomain}, mesh.aliases...)
	switch {
	case f.socket != "":
		log.Info("identity from the SPIFFE Workload API", "socket", f.socket)
		return spiffeapi.New(ctx, f.socket, domains, log)
	case f.ca == "":
		return identity.FromFiles(f.cert, f.key, f.roots, domains, log)
	}
	conn, err := xds.Dial(xds.Transport{Address: f.ca, ServerName: f.caName, RootFile: f.roots, TokenFile: f.caToken, Metadata: map[string]string{"ClusterID": mesh.clusterID}})
	if err != nil {
		return nil, err
	}
	log.Info("identity from a CA", "address", f.ca)
	src, err := istioca.New(ctx, istioca.Options{
		Conn: conn, TrustDomain: mesh.trustDomain, TrustAliases: mesh.aliases,
		Namespace: cmp.Or(os.Getenv("POD_NAMESPACE"), gw.Namespace), Account: cmp.Or(f.account, gw.Name), RootFile: f.roots, Log: log,
	})
	if err != nil {
		conn.Close()
		return nil, err
	}
	return src, nil
}
