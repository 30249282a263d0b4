package jwt

import (
	"slices"
	"strings"
	"unsafe"

	"waypoint.dev/waypoint/internal/attrs"
)

// Header is one header line to write; Name is lower case.
type Header struct{ Name, Value string }

// Result is the outcome of a Check. The zero value is ready; one Result serves
// one request at a time and its slices are reused. Strings borrow from the
// request, the token cache, or the Result itself: they are valid until either is
// reused.
type Result struct {
	// Status is 0 to pass the request on, else 401 or 403. A denial carries the
	// body, Envoy's response_code_details, and Challenge's header.
	Status  int
	Body    string
	Details string

	// The edits of a request that passes, to be made in this order. The removals
	// hold for a denied one too, but nobody sees it.
	Remove         []string // headers of which all lines go
	Set            []Header // headers to write then
	Query          string   // if QueryChanged
	HasQuery       bool
	QueryChanged   bool
	Cookies        []string // lines that replace those of the cookie header, if CookiesChanged
	CookiesChanged bool

	Claims *attrs.Claims // of the token; nil: none

	found []found
	hits  []hit
	buf   []byte
}

// hit is a token that is valid for a provider.
type hit struct {
	p     *provider
	v     *verified
	found found
}

func (res *Result) reset() {
	*res = Result{
		Remove: res.Remove[:0], Set: res.Set[:0], Cookies: res.Cookies[:0],
		found: res.found[:0], hits: res.hits[:0], buf: res.buf[:0],
	}
}

// Challenge is the www-authenticate header of a denial of r.
func (res *Result) Challenge(r *attrs.Request) string {
	// Envoy's realm is the original URL, its path cut at 256 bytes.
	const maxPath = 256
	path := r.Path
	if r.HasQuery {
		path += "?" + r.Query
	}
	if len(path) > maxPath {
		path = path[:maxPath]
	}
	uri := strings.NewReplacer(`"`, "%22", `\`, "%5C").Replace(r.Scheme + "://" + r.Authority + path)
	challenge := `Bearer realm="` + uri + `"`
	if res.Body != statusText[missed] {
		challenge += `, error="invalid_token"`
	}
	return challenge
}

func (res *Result) deny(st status) {
	res.Status = 401
	if st == badAudience {
		res.Status = 403
	}
	res.Body = statusText[st]
	res.Details = details[st]
	res.Set = res.Set[:0]
	res.Claims = nil
}

// details are the response_code_details of each status, made once.
var details = func() (d [len(statusText)]string) {
	for i, s := range statusText {
		d[i] = "jwt_authn_access_denied{" + strings.ReplaceAll(s, " ", "_") + "}"
	}
	return d
}()

// apply writes the edits of all valid tokens. Of several the last one gives the
// claims, as in Envoy, whose metadata the last one overwrites.
func (res *Result) apply(r *attrs.Request) {
	for i := range res.hits {
		h := &res.hits[i]
		res.Claims = h.v.claims
		res.Set = append(res.Set, h.v.set...)
		if h.p.Forward {
			continue
		}
		switch h.found.place {
		case inHeader:
			if !slices.Contains(res.Remove, h.found.name) {
				res.Remove = append(res.Remove, h.found.name)
			}
		case inParam:
			res.dropParam(r, h.found.name)
		case inCookie:
			res.dropCookie(r, h.found.name)
		}
	}
}

func (res *Result) dropParam(r *attrs.Request, name string) {
	if !res.QueryChanged {
		res.Query = r.Query
	}
	start := len(res.buf)
	res.buf = withoutParam(res.buf, res.Query, name)
	res.Query = res.view(start)
	res.QueryChanged, res.HasQuery = true, res.Query != ""
}

func (res *Result) dropCookie(r *attrs.Request, name string) {
	if !res.CookiesChanged {
		res.CookiesChanged = true
		for i := range r.Headers {
			if r.Headers[i].Name == "cookie" {
				res.Cookies = append(res.Cookies, r.Headers[i].Value)
			}
		}
	}
	kept := res.Cookies[:0]
	for _, line := range res.Cookies {
		start := len(res.buf)
		res.buf = withoutCookie(res.buf, line, name)
		if v := res.view(start); v != "" {
			kept = append(kept, v)
		}
	}
	res.Cookies = kept
}

// view is the text of buf from start on. It stays valid when buf grows: the old
// array lives as long as the view.
func (res *Result) view(start int) string {
	if start == len(res.buf) {
		return ""
	}
	return unsafe.String(&res.buf[start], len(res.buf)-start)
}
