package extauthz

import (
	"errors"
	"fmt"
	"strings"
)

// Verdict is what a check came to. The zero value denies.
type Verdict uint8

const (
	Denied     Verdict = iota // the authorizer said no
	Failed                    // it could not be asked, or its answer not understood
	Allowed                   // it said yes
	FailedOpen                // it failed, and the provider fails open
)

// Outcome is the result of a check.
type Outcome struct {
	Verdict Verdict
	Err     error // of Failed and FailedOpen, for the log

	// A denial (Denied, Failed): the response to send, flag UAEX.
	Status  int
	Headers []Edit
	Body    string
	Details string // Envoy's response_code_details

	// The edits of an allowed request, in this order.
	Request     []Edit
	QuerySet    []Param
	QueryRemove []string
	Response    []Edit // for the response that the backend will send
	ClearRoute  bool   // choose the route after the edits
}

// Pass reports whether the request goes on.
func (o Outcome) Pass() bool { return o.Verdict == Allowed || o.Verdict == FailedOpen }

// Op is what an Edit does to the lines of its name.
type Op uint8

const (
	Set         Op = iota // replace all lines by this one
	Add                   // one more line
	AddIfAbsent           // only if there is none
	SetIfExists           // replace, only if there is one
	Append                // join to the existing value with a comma; nothing if there is none
	Remove                // delete all lines
)

// Edit changes a header; Name is lower case and valid, as is Value.
type Edit struct {
	Op          Op
	Name, Value string
}

// Param is a query parameter, not encoded.
type Param struct{ Name, Value string }

const (
	detailsDenied = "ext_authz_denied"
	detailsError  = "ext_authz_error"
)

func (c *Client) failed(err error) Outcome {
	if c.conf.FailOpen {
		return Outcome{Verdict: FailedOpen, Err: err}
	}
	return Outcome{Verdict: Failed, Err: err, Status: c.statusOnError(), Details: detailsError}
}

func (c *Client) statusOnError() int {
	if c.conf.StatusOnError != 0 {
		return c.conf.StatusOnError
	}
	return 403
}

func denied(status int, headers []Edit, body string) Outcome {
	if status < 200 || status > 599 {
		status = 403
	}
	return Outcome{Verdict: Denied, Status: status, Headers: headers, Body: body, Details: detailsDenied}
}

var errHeader = errors.New("answer has a header that cannot be sent")

// edit makes an edit of a header in an answer; use is false for headers that
// belong to the message and not to its meaning, which are left out.
func edit(op Op, name, value string) (e Edit, use bool, err error) {
	name = strings.ToLower(name)
	if strings.HasPrefix(name, ":") || hopByHop(name) {
		return e, false, nil
	}
	if !validName(name) || !validValue(value) {
		return e, false, fmt.Errorf("%w: %q", errHeader, name)
	}
	return Edit{op, name, value}, true, nil
}

// hopByHop are the fields that describe one connection or the framing of one
// message (RFC 9110 section 7.6.1), and host, which is not the authorizer's.
func hopByHop(name string) bool {
	switch name {
	case "connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "content-length", "host":
		return true
	}
	return false
}

func validName(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if !('a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0) {
			return false
		}
	}
	return s != ""
}

func validValue(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}
