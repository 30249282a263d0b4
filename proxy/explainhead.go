package proxy

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	"waypoint.dev/waypoint/authz"
	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/proxy/codec"
	"waypoint.dev/waypoint/proxy/http1"
	"waypoint.dev/waypoint/routing"
	"waypoint.dev/waypoint/telemetry"
)

// splitURL reads the address of a URL, and leaves the rest as it is written: what is
// wrong with a path is for the data path to say. Without a scheme it is http.
func splitURL(s string) (u *url.URL, target string, err error) {
	if !strings.Contains(s, "://") {
		s = "http://" + s
	}
	scheme, rest, _ := strings.Cut(s, "://")
	rest, _, _ = strings.Cut(rest, "#") // clients keep it
	end := strings.IndexAny(rest, "/?")
	if end < 0 {
		end = len(rest)
	}
	target = ascii(rest[end:])
	if !strings.HasPrefix(target, "/") {
		target = "/" + target
	}
	u, err = url.Parse(scheme + "://" + rest[:end])
	return u, target, err
}

// ascii percent-encodes what is no ASCII, as every client does before it sends a URL
// (RFC 3987 section 3.1).
func ascii(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if s[i] < 0x80 {
			b.WriteByte(s[i])
		} else {
			fmt.Fprintf(&b, "%%%02X", s[i])
		}
	}
	return b.String()
}

// head is the head of the question as the codec reads it from a client: one that the
// codec refuses is refused here. It borrows memory that nobody else gets.
func (q *Question) head(u *url.URL, target string, set *config.HTTPSettings) (*codec.RequestHead, error) {
	method := q.Method
	if method == "" {
		method = "GET"
	}
	if q.HTTP2 {
		in := &codec.RequestHead{Method: method, Scheme: "http", Authority: u.Host, Target: target, Version: codec.HTTP2}
		for _, f := range q.Headers {
			if f.Name = strings.ToLower(f.Name); f.Name == "host" {
				in.Authority = f.Value
				continue
			}
			in.Fields = append(in.Fields, f)
		}
		if codec.Misspelled(method) {
			return nil, &http1.ProtocolError{Status: 400, Reason: "invalid method"}
		}
		return in, nil
	}
	if method == "CONNECT" {
		if target = u.Host; u.Port() == "" {
			target += ":80" // RFC 9112 section 3.2.3: host and port, always
		}
	}
	var b strings.Builder
	b.WriteString(method + " " + target + " HTTP/1.1\r\n")
	named := false
	for _, f := range q.Headers {
		named = named || strings.EqualFold(f.Name, "host")
		b.WriteString(f.Name + ": " + f.Value + "\r\n")
	}
	if !named {
		b.WriteString("host: " + u.Host + "\r\n")
	}
	b.WriteString("\r\n")
	srv, err := http1.NewServerConn(mute{}, http1.ServerOptions{MaxHead: set.MaxHeadBytes, AllowHTTP10: set.AllowHTTP10, Sniffed: []byte(b.String())}).Next()
	if err != nil {
		return nil, err
	}
	return srv.Head(), nil
}

// explainRefused tells of a head that the codec refuses; other errors are returned.
func explainRefused(c *config.Chain, err error) (*Explanation, error) {
	var pe *http1.ProtocolError
	if !errors.As(err, &pe) {
		return nil, err
	}
	return &Explanation{
		Destination: c.Spec.Key, Decision: "allow", Action: "answer", Status: pe.Status, Match: -1, Body: malformedBody(pe.Status),
		Flags: telemetry.FlagDPE.String(), Details: malformedDetails(pe),
		Backends: []ExplainedBackend{}, Policies: []authz.Considered{}, Routes: []routing.Considered{},
	}, nil
}

// mute is a connection on which nothing comes and everything goes.
type mute struct{}

func (mute) Read([]byte) (int, error)         { return 0, io.EOF }
func (mute) Write(p []byte) (int, error)      { return len(p), nil }
func (mute) CloseWrite() error                { return nil }
func (mute) Close() error                     { return nil }
func (mute) Reset()                           {}
func (mute) SetDeadline(time.Time) error      { return nil }
func (mute) SetReadDeadline(time.Time) error  { return nil }
func (mute) SetWriteDeadline(time.Time) error { return nil }
