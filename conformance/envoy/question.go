package envoy

import (
	"fmt"
	"strings"
)

// Client is who asks: an identity and the address of its pod.
type Client struct {
	Namespace, ServiceAccount string
	Addr                      string // source address of its tunnels, in 127/8
}

// String is the identity at the address.
func (c Client) String() string { return c.Namespace + "/" + c.ServiceAccount + "@" + c.Addr }

// Question is one request.
type Question struct {
	ID        string
	Subject   string // what it asks about, a service
	Rule      string // whose decision it probes; empty: none in particular
	Kind      string // of the corpus part: route, rbac, template, normalize, header, malformed, sample
	Note      string // what is special about it, for whoever reads a difference
	Client    Client
	Authority string // of the tunnel: VIP and port

	Method, Target, Host string
	Headers              [][2]string
	Body                 string
	Raw                  []byte // instead of the above: bytes to send as they are
	Proto2               bool   // ask over HTTP/2 inside the tunnel
	Tries                string // how applications treat one try after the other, separated by commas
	Beside               string // Tries of a request that is under way meanwhile; held: a connection without HTTP
	Twice                bool   // ask on two connections at once; the first answer counts
	Audit                bool   // compare whether it was audited
	TCP                  bool   // send Raw over a plain connection, which a line answers
	Direct               bool   // show the oracle the client's address, which its tunnels hide
	SNI                  string // of a TLS hello in the tunnel; such questions are not asked, only decided
	Claims               Object // of the token that the request carries and that is valid; nil: none
	token                *token // that sign writes
}

// Bytes is the request as it goes over an HTTP/1.1 connection.
func (q *Question) Bytes() []byte {
	if q.Raw != nil {
		return q.Raw
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\nX-Case: %s\r\n", q.Method, q.Target, q.Host, q.ID)
	for _, h := range q.Headers {
		fmt.Fprintf(&b, "%s: %s\r\n", h[0], h[1])
	}
	if q.Body != "" {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(q.Body))
	}
	b.WriteString("\r\n")
	b.WriteString(q.Body)
	return []byte(b.String())
}

// String is the request in one line.
func (q *Question) String() string {
	if q.Note != "" {
		own := *q
		own.Note = ""
		return q.Note + ": " + own.String()
	}
	if q.Raw != nil {
		return fmt.Sprintf("%s %s as %v: %.120q", q.ID, q.Subject, q.Client, q.Raw)
	}
	return fmt.Sprintf("%s %s as %v: %s %.160s host %s %.90q", q.ID, q.Subject, q.Client, q.Method, q.Target, q.Host, q.Headers)
}
