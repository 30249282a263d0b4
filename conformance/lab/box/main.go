// Command box is a Kubernetes control plane in one process: etcd, kube-apiserver and
// kube-controller-manager, linked from their Go modules.
//
// It lives in a module of its own because k8s.io/kubernetes pins dozens of versions that
// nothing else of this repository should follow. The lab starts it as a child process
// and reads "ready" from its standard output.
//
//	box -dir DIR -advertise 10.244.0.1
//
// DIR must hold sa.key and sa.pub (signing keys of service account tokens), tokens.csv
// (static bearer tokens) and kubeconfig (for the controller manager); the lab writes them.
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	logsapi "k8s.io/component-base/logs/api/v1"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"
)

const (
	etcdClient = "http://127.0.0.1:2379"
	etcdPeer   = "http://127.0.0.1:2380"
	readyz     = "https://127.0.0.1:6443/readyz"
	// startLimit is an order of magnitude above the three seconds a start takes.
	startLimit = 60 * time.Second
)

// controllerNames are the controllers a workload of Deployments needs, and no other: each
// one costs watches and memory. The two last ones give every namespace its default service
// account and the ConfigMap with the API server's CA, which the projected token volume mounts.
var controllerNames = []string{
	"deployment-controller",
	"replicaset-controller",
	"endpointslice-controller",
	"namespace-controller",
	"garbage-collector-controller",
	"disruption-controller",
	"horizontal-pod-autoscaler-controller",
	"serviceaccount-controller",
	"root-ca-certificate-publisher-controller",
}

func main() {
	dir := flag.String("dir", "", "folder with keys and tokens; etcd's data and certificates go there")
	advertise := flag.String("advertise", "", "address of the API server as pods see it")
	services := flag.String("services", "10.96.0.0/16", "range of the Services' cluster IPs")
	flag.Parse()
	if err := run(*dir, *advertise, *services); err != nil {
		fmt.Fprintln(os.Stderr, "box:", err)
		os.Exit(1)
	}
}

func run(dir, advertise, services string) error {
	if dir == "" || advertise == "" {
		return errors.New("-dir and -advertise are needed")
	}
	// The API server and the controller manager both set up logging; the second one fails
	// unless the same settings may be given again.
	logsapi.ReapplyHandling = logsapi.ReapplyHandlingIgnoreUnchanged

	if err := startEtcd(filepath.Join(dir, "etcd")); err != nil {
		return fmt.Errorf("etcd: %w", err)
	}
	failed := make(chan error, 2)
	api := apiserver.NewAPIServerCommand()
	api.SetArgs(apiserverArgs(dir, advertise, services))
	go func() { failed <- fmt.Errorf("kube-apiserver ended: %w", orNil(api.Execute())) }()
	if err := awaitReady(failed); err != nil {
		return err
	}
	kcm := controllers.NewControllerManagerCommand()
	kcm.SetArgs([]string{
		"--kubeconfig=" + filepath.Join(dir, "kubeconfig"),
		"--leader-elect=false",
		"--secure-port=0",
		"--root-ca-file=" + filepath.Join(dir, "certs", "apiserver.crt"),
		"--controllers=" + strings.Join(controllerNames, ","),
		// Tests wait for the autoscaler, whose own pace of 15 s is for the metrics of a
		// cluster. There are none here: it keeps what it has, within minimum and maximum.
		"--horizontal-pod-autoscaler-sync-period=1s",
	})
	go func() { failed <- fmt.Errorf("kube-controller-manager ended: %w", orNil(kcm.Execute())) }()
	fmt.Println("ready")
	return <-failed
}

func startEtcd(dir string) error {
	cfg := embed.NewConfig()
	cfg.Dir = dir
	client, peer := mustURL(etcdClient), mustURL(etcdPeer)
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = client, client
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = peer, peer
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	cfg.LogLevel = "error"
	// A crash loses the lab anyway, and fsync is what a write costs most.
	cfg.UnsafeNoFsync = true
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		return err
	}
	select {
	case <-e.Server.ReadyNotify():
		return nil
	case err := <-e.Err():
		return err
	case <-time.After(startLimit):
		return errors.New("not ready")
	}
}

func apiserverArgs(dir, advertise, services string) []string {
	at := func(name string) string { return filepath.Join(dir, name) }
	return []string{
		"--etcd-servers=" + etcdClient,
		"--service-cluster-ip-range=" + services,
		"--secure-port=6443",
		"--bind-address=0.0.0.0",
		// A fresh network namespace has no default route to derive it from.
		"--advertise-address=" + advertise,
		"--endpoint-reconciler-type=none",
		"--cert-dir=" + at("certs"),
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + at("sa.pub"),
		"--service-account-signing-key-file=" + at("sa.key"),
		// RBAC, not AlwaysAllow: it shows that the roles the chart grants are enough.
		"--authorization-mode=RBAC",
		// Asks for the right that a cluster so hardened wants of whoever blocks the deletion
		// of an owner.
		"--enable-admission-plugins=OwnerReferencesPermissionEnforcement",
		"--token-auth-file=" + at("tokens.csv"),
		"--allow-privileged=true",
		"--v=0",
	}
}

// awaitReady returns when the API server answers its readiness check, or an error that
// ended it.
func awaitReady(failed <-chan error) error {
	// The certificate is the API server's own, made a moment ago; nothing is sent to it.
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	defer client.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, readyz, nil)
		if err != nil {
			return err
		}
		if res, err := client.Do(req); err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case err := <-failed:
			return err
		case <-ctx.Done():
			return errors.New("kube-apiserver not ready")
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func orNil(err error) error {
	if err == nil {
		return errors.New("without an error")
	}
	return err
}

func mustURL(s string) []url.URL {
	u, err := url.Parse(s)
	if err != nil {
		panic(err)
	}
	return []url.URL{*u}
}
