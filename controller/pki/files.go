package pki

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"time"
)

// filePoll is how often mounted files are looked at; the kubelet itself takes up to
// a minute to bring a change.
const filePoll = 10 * time.Second

// Files is a Source of mounted PEM files, read again as they change.
type Files struct {
	state
	cert, key, roots string // fixed after NewFiles
	log              *slog.Logger
}

// NewFiles reads a certificate chain, its key and the roots that verify it.
func NewFiles(cert, key, roots string, log *slog.Logger) (*Files, error) {
	f := &Files{cert: cert, key: key, roots: roots, log: log}
	return f, f.read()
}

func (f *Files) read() error {
	pair, err := tls.LoadX509KeyPair(f.cert, f.key)
	if err != nil {
		return fmt.Errorf("pki: %w", err)
	}
	roots, err := os.ReadFile(f.roots)
	if err != nil {
		return fmt.Errorf("pki: %w", err)
	}
	if !x509.NewCertPool().AppendCertsFromPEM(roots) {
		return fmt.Errorf("pki: %s holds no certificate", f.roots)
	}
	f.publish(&pair, roots)
	return nil
}

// Run follows the files until ctx ends. What cannot be read is logged and the last
// good certificate kept.
func (f *Files) Run(ctx context.Context) {
	t := time.NewTicker(filePoll)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			if err := f.read(); err != nil {
				f.log.Error("the mounted certificate cannot be read; the last one stays", "error", err)
			}
		}
	}
}
