package identity

import (
	"os"
	"path/filepath"
	"time"
)

// WriteFiles issues a certificate for one service account, valid for ttl, and writes
// cert.pem, key.pem and roots.pem into dir, which it makes where it is missing.
// [FromFiles] reads them, and so does a waypoint by --cert, --key and --roots. Files
// that are there are written over in place, not replaced.
func (ca *CA) WriteFiles(dir, ns, sa string, ttl time.Duration) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	svid, err := ca.Issue(ns, sa, ttl)
	if err != nil {
		return err
	}
	chain, key, err := svid.PEM()
	if err != nil {
		return err
	}
	for name, b := range map[string][]byte{"cert.pem": chain, "key.pem": key, "roots.pem": ca.Bundle().PEM} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			return err
		}
	}
	return nil
}
