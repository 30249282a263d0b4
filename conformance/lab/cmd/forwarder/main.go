// Command forwarder stands in for a waypoint that knows no routes and no policies: it takes
// tunnels to Services and passes their bytes to an endpoint. Put in a waypoint's place, it
// shows that the conformance suite does look at what a waypoint does.
//
// It takes the waypoint's own command line, uses --cert, --key and --roots of it, resolves
// endpoints through the file that FORWARD names (lines "address:port endpoint:port", read
// for each tunnel) and answers ready on port 15021.
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "forwarder:", err)
		os.Exit(1)
	}
}

// flag finds --name=value among the waypoint's arguments, most of which mean nothing here.
func flag(name string) string {
	for _, a := range os.Args[1:] {
		if v, ok := strings.CutPrefix(a, "--"+name+"="); ok {
			return v
		}
	}
	return ""
}

func run() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	cert, err := tls.LoadX509KeyPair(flag("cert"), flag("key"))
	if err != nil {
		return err
	}
	pem, err := os.ReadFile(flag("roots"))
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	srv := &http.Server{
		Addr: ":15008", Handler: http.HandlerFunc(tunnel), Protocols: protocols,
		TLSConfig: &tls.Config{
			Certificates: []tls.Certificate{cert}, ClientCAs: roots,
			ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS12,
		},
	}
	ready := &http.Server{Addr: ":15021", Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}
	failed := make(chan error, 2)
	go func() { failed <- srv.ListenAndServeTLS("", "") }()
	go func() { failed <- ready.ListenAndServe() }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		return nil
	}
}

func tunnel(w http.ResponseWriter, r *http.Request) {
	to, err := endpoint(r.Host)
	if err != nil {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	var d net.Dialer
	up, err := d.DialContext(r.Context(), "tcp", to)
	if err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	defer up.Close()
	rc := http.NewResponseController(w)
	w.WriteHeader(http.StatusOK)
	if rc.Flush() != nil {
		return
	}
	go func() {
		_, _ = io.Copy(up, r.Body)
		_ = up.(*net.TCPConn).CloseWrite()
	}()
	buf := make([]byte, 32<<10)
	for {
		n, err := up.Read(buf)
		if _, werr := w.Write(buf[:n]); werr != nil || rc.Flush() != nil || err != nil {
			return
		}
	}
}

// endpoint looks an address up, choosing by chance among several.
func endpoint(authority string) (string, error) {
	f, err := os.Open(os.Getenv("FORWARD"))
	if err != nil {
		return "", err
	}
	defer f.Close()
	var all []string
	for s := bufio.NewScanner(f); s.Scan(); {
		if from, to, ok := strings.Cut(s.Text(), " "); ok && from == authority {
			all = append(all, to)
		}
	}
	if len(all) == 0 {
		return "", errors.New("unknown address")
	}
	return all[rand.IntN(len(all))], nil
}
