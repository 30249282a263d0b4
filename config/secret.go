package config

// Names of [UpstreamTLS] that stand for what the waypoint itself has, as istiod
// writes them: its workload certificate, and the roots of the mesh.
const (
	SecretOwn   = "default"
	SecretRoots = "ROOTCA"
)

// Secret is certificates that a source delivers in place of files, PEM each. It is
// immutable: a rotated secret is another one. The fields stay out of dumps.
type Secret struct {
	Chain, Key []byte `json:"-"` // certificate and its key
	Roots      []byte `json:"-"`
	CRL        []byte `json:"-"` // revocation lists for Roots
}
