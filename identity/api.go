package identity

// The surface, whose types the package's other files define:
//
//	type SVID struct { Certificate tls.Certificate; Principal attrs.Principal; NotAfter time.Time }
//	type Bundle struct { Roots *x509.CertPool; PEM []byte; TrustDomains []string } // TrustDomains[0] is the mesh's own; the rest its aliases
//
//	// Source is one origin of identity. Both values are never nil after Start.
//	type Source interface {
//	    SVID() *SVID
//	    Bundle() *Bundle
//	    Changed() <-chan struct{} // closed at the next change of either; ask again after
//	    Close() error
//	}
//	func FromFiles(cert, key, roots string, trustDomains []string, log *slog.Logger) (Source, error) // re-read on change
//	func NewCA(trustDomain string) (*CA, error)                       // built-in CA for demo and tests
//	func (ca *CA) Source(ns, sa string, ttl time.Duration) Source     // rotates at half life
//	func (ca *CA) Issue(ns, sa string, ttl time.Duration) (*SVID, error)
//	func (ca *CA) RotateRoot() ...                                    // for tests
//
//	// TLS 1.3, ALPN h2, client certificate required, SPIFFE URI SAN in a trusted domain.
//	func ServerTLS(src Source) *tls.Config
//	// As client: chain to the bundle; the URI SAN must be one of want, or, when
//	// want is empty, lie in one of the bundle's trust domains. ErrIdentity otherwise.
//	func ClientTLS(src Source, want []string) *tls.Config
//	func PeerPrincipal(cs *tls.ConnectionState) (attrs.Principal, error)
