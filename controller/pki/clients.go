package pki

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// Clients verifies callers' certificates by the roots of a PEM file, which is read
// again when it has changed. It is safe for concurrent use.
type Clients struct {
	// Fixed after NewClients.
	path string
	log  *slog.Logger

	mu    sync.Mutex
	stamp time.Time      // guarded by mu: of the file when it was read
	size  int64          // guarded by mu: likewise
	roots *x509.CertPool // guarded by mu, immutable: the last good ones
}

// NewClients reads the roots.
func NewClients(path string, log *slog.Logger) (*Clients, error) {
	c := &Clients{path: path, log: log}
	return c, c.read()
}

// read follows the file. What cannot be read leaves the roots as they are.
func (c *Clients) read() error {
	st, err := os.Stat(c.path)
	if err != nil {
		return fmt.Errorf("pki: %w", err)
	}
	if st.ModTime().Equal(c.stamp) && st.Size() == c.size {
		return nil
	}
	b, err := os.ReadFile(c.path)
	if err != nil {
		return fmt.Errorf("pki: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(b) {
		return fmt.Errorf("pki: %s holds no certificate", c.path)
	}
	c.roots, c.stamp, c.size = roots, st.ModTime(), st.Size()
	return nil
}

// pool returns the roots of now. It is asked for each handshake, of which there are
// few: a waypoint keeps its connection.
func (c *Clients) pool() *x509.CertPool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.read(); err != nil {
		c.log.Error("the roots of clients cannot be read; the last ones stay", "error", err)
	}
	return c.roots
}

// verifying returns a configuration that verifies the certificate of a client that has
// one. A client without one proves itself otherwise.
func (c *Clients) verifying(cfg *tls.Config) *tls.Config {
	out := cfg.Clone()
	out.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		one := cfg.Clone()
		one.ClientCAs, one.ClientAuth = c.pool(), tls.VerifyClientCertIfGiven
		return one, nil
	}
	return out
}
