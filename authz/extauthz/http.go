package extauthz

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

type httpCaller struct {
	client    *Client
	transport *http.Transport
	authority string

	include, upstream, upstreamAppend, onAllow, onDeny []Pattern
}

const (
	maxAnswer     = 1 << 20 // bytes of a denial's body that are passed on
	maxIdle       = 64      // kept connections
	maxAnswerHead = 64 << 10
)

func newHTTP(c *Client) *httpCaller {
	h := c.conf.HTTP
	authority := h.Authority
	if authority == "" {
		authority = "ext-authz"
	}
	return &httpCaller{
		client: c, authority: authority,
		include: lowerPatterns(h.IncludeHeaders), upstream: lowerPatterns(h.UpstreamOnAllow), upstreamAppend: lowerPatterns(h.UpstreamAppendOnAllow),
		onAllow: lowerPatterns(h.DownstreamOnAllow), onDeny: lowerPatterns(h.DownstreamOnDeny),
		transport: &http.Transport{
			DialContext:            func(ctx context.Context, _, _ string) (net.Conn, error) { return c.connect(ctx) },
			DisableCompression:     true, // the check carries only what was chosen
			MaxIdleConnsPerHost:    maxIdle,
			IdleConnTimeout:        90 * time.Second,
			MaxResponseHeaderBytes: maxAnswerHead,
		},
	}
}

func (h *httpCaller) close() { h.transport.CloseIdleConnections() }

func (h *httpCaller) check(ctx context.Context, in *Input) (Outcome, error) {
	if in.Request == nil {
		return Outcome{}, fmt.Errorf("an HTTP provider cannot check a connection")
	}
	resp, err := h.transport.RoundTrip(h.request(ctx, in)) // no redirects: they are answers
	if err != nil {
		return Outcome{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return Outcome{}, err
	}
	switch {
	case resp.StatusCode >= 500:
		return Outcome{}, fmt.Errorf("authorizer answers %d", resp.StatusCode)
	case resp.StatusCode == http.StatusOK:
		return h.allowed(resp)
	case len(body) > maxAnswer:
		return Outcome{}, fmt.Errorf("answer is larger than %d bytes", maxAnswer)
	}
	var headers []Edit
	for _, x := range lines(resp.Header) {
		if len(h.onDeny) > 0 && !matchAny(h.onDeny, x.Name) && x.Name != "www-authenticate" && x.Name != "location" {
			continue
		}
		if e, use, err := edit(Add, x.Name, x.Value); err == nil && use {
			headers = append(headers, e)
		}
	}
	return denied(resp.StatusCode, headers, string(body)), nil
}

// headersToRemove lists request headers that an allowed request loses.
const headersToRemove = "x-envoy-auth-headers-to-remove"

func (h *httpCaller) allowed(resp *http.Response) (Outcome, error) {
	o := Outcome{Verdict: Allowed}
	seen := map[string]bool{}
	for _, x := range lines(resp.Header) {
		if x.Name == headersToRemove {
			for _, name := range strings.Split(x.Value, ",") {
				if name = strings.TrimSpace(name); name == "" {
					continue
				}
				e, use, err := edit(Remove, name, "")
				if err != nil {
					return Outcome{}, err
				}
				if use {
					o.Request = append(o.Request, e)
				}
			}
			continue
		}
		op := Set
		if seen[x.Name] {
			op = Add // the second line of what the first has replaced
		}
		if matchAny(h.upstream, x.Name) {
			seen[x.Name] = true
		} else if op = Append; !matchAny(h.upstreamAppend, x.Name) {
			op = Remove
		}
		if op != Remove {
			e, use, err := edit(op, x.Name, x.Value)
			if err != nil {
				return Outcome{}, err
			}
			if use {
				o.Request = append(o.Request, e)
			}
		}
		if matchAny(h.onAllow, x.Name) {
			e, use, err := edit(Add, x.Name, x.Value)
			if err != nil {
				return Outcome{}, err
			}
			if use {
				o.Response = append(o.Response, e)
			}
		}
	}
	return o, nil
}

// lines lists headers in the order of their names, so that outcomes are stable.
func lines(h http.Header) []Header {
	var out []Header
	for _, name := range slices.Sorted(maps.Keys(h)) {
		for _, v := range h[name] {
			out = append(out, Header{strings.ToLower(name), v})
		}
	}
	return out
}

// request makes the check. Everything borrowed is copied: a transport may still
// be writing when a timeout ends the call.
func (h *httpCaller) request(ctx context.Context, in *Input) *http.Request {
	conf, r := h.client.conf.HTTP, in.Request
	header := http.Header{"User-Agent": {""}} // none of ours
	for i := range r.Headers {
		f := &r.Headers[i]
		if f.Name == partialBody || f.Name == "content-length" || f.Name == "transfer-encoding" ||
			f.Name != "authorization" && !matchAny(h.include, f.Name) {
			continue
		}
		name := http.CanonicalHeaderKey(strings.Clone(f.Name))
		if name == "User-Agent" && header.Get(name) == "" {
			header.Del(name)
		}
		header[name] = append(header[name], strings.Clone(f.Value))
	}
	for _, a := range conf.AdditionalHeaders {
		header.Set(a.Name, a.Value)
	}
	path := conf.PathPrefix + strings.Clone(target(r))
	u := &url.URL{Scheme: "http", Host: h.authority, Opaque: path} // sent as it is
	if strings.HasPrefix(path, "//") {
		u.Opaque = "//" + h.authority + path // absolute form, or it would be read as an authority
	}
	req := &http.Request{
		Method: strings.Clone(r.Method), URL: u, Host: strings.Clone(r.Authority), Header: header,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Body: http.NoBody,
	}
	if b := h.client.conf.Body; b != nil {
		body, cut := limit(in, b)
		body = bytes.Clone(body)
		if len(body) > 0 {
			header.Set(partialBody, fmt.Sprint(cut))
			req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		}
	}
	return req.WithContext(ctx)
}
