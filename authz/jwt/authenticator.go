package jwt

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"waypoint.dev/waypoint/internal/attrs"
)

// Authenticator is a compiled Config. It is safe for concurrent use.
type Authenticator struct {
	providers []*provider
	root      *node
	sanitize  []string // headers that only we may write
	preflight bool     // CORS preflights pass
	store     *KeyStore
	closed    atomic.Bool
}

// provider is a compiled Provider.
type provider struct {
	Provider
	headers []HeaderLocation // names in lower case
	params  []string
	cookies []string
	skew    int64
	inline  *keySet // or
	src     *source
	cache   cache
}

// node is a compiled Requirement.
type node struct {
	kind      RequirementKind
	provider  *provider
	audiences []string
	of        []*node
	watched   []*provider // AllowMissing*: whose tokens are read
}

// New compiles c. Remote keys come from store, which may be nil if no provider
// needs it. The error is a *FieldError; the caller must then refuse every
// request. Close releases the store's keys.
func New(c *Config, store *KeyStore) (*Authenticator, error) {
	a := &Authenticator{preflight: c.BypassCORSPreflight, store: store}
	byName := map[string]*provider{}
	for i := range c.Providers {
		p, err := a.compile(i, &c.Providers[i])
		if err == nil && byName[p.Name] != nil {
			err = &FieldError{fmt.Sprintf("providers[%d].name", i), fmt.Sprintf("%q is used twice", p.Name)}
		}
		if err != nil {
			a.Close()
			return nil, err
		}
		byName[p.Name] = p
		a.providers = append(a.providers, p)
	}
	var err error
	if c.Require != nil {
		a.root, err = a.tree(c.Require, "require", byName, nil)
	}
	if err != nil {
		a.Close()
		return nil, err
	}
	return a, nil
}

// Close releases remote keys. Checks under way end as they would.
func (a *Authenticator) Close() {
	if a.closed.Swap(true) {
		return
	}
	for _, p := range a.providers {
		if p.src != nil {
			a.store.release(p.src)
		}
	}
}

func (a *Authenticator) compile(i int, c *Provider) (*provider, error) {
	if err := c.check(i); err != nil {
		return nil, err
	}
	p := &provider{Provider: *c, params: c.FromParams, cookies: c.FromCookies}
	for _, h := range c.FromHeaders {
		p.headers = append(p.headers, HeaderLocation{strings.ToLower(h.Name), h.Prefix})
	}
	if len(p.headers)+len(p.params)+len(p.cookies) == 0 {
		p.headers = []HeaderLocation{{"authorization", "Bearer "}}
		p.params = []string{"access_token"}
	}
	p.PayloadHeader = strings.ToLower(c.PayloadHeader)
	p.ClaimHeaders = slices.Clone(c.ClaimHeaders)
	for j := range p.ClaimHeaders {
		p.ClaimHeaders[j].Header = strings.ToLower(p.ClaimHeaders[j].Header)
		a.reserve(p.ClaimHeaders[j].Header)
	}
	a.reserve(p.PayloadHeader)
	skew := c.ClockSkew
	if skew == 0 {
		skew = defaultSkew
	}
	p.skew = int64(max(skew, 0) / time.Second)
	if c.JWKS != "" {
		ks, err := parseKeys([]byte(c.JWKS), true)
		if err != nil {
			return nil, &FieldError{fmt.Sprintf("providers[%d].jwks", i), err.Error()}
		}
		p.inline = ks
		return p, nil
	}
	if a.store == nil {
		return nil, &FieldError{fmt.Sprintf("providers[%d].jwksUri", i), "remote keys cannot be fetched here"}
	}
	id := sourceID{url: c.JWKSURI, timeout: c.Timeout, refresh: c.Refresh}
	if id.url == "" {
		id.url, id.discover = c.Issuer, true
	}
	if id.timeout <= 0 {
		id.timeout = defaultTimeout
	}
	if id.refresh <= 0 {
		id.refresh = defaultRefresh
	}
	p.src = a.store.acquire(id)
	return p, nil
}

func (a *Authenticator) reserve(name string) {
	if name != "" && !slices.Contains(a.sanitize, name) {
		a.sanitize = append(a.sanitize, name)
	}
}

// tree compiles a requirement. beside are the providers that stand beside it in a
// RequireAny: what AllowMissing watches.
func (a *Authenticator) tree(r *Requirement, at string, byName map[string]*provider, beside []*provider) (*node, error) {
	n := &node{kind: r.Kind, audiences: r.Audience}
	switch r.Kind {
	case RequireProvider:
		if n.provider = byName[r.Provider]; n.provider == nil {
			return nil, &FieldError{at + ".provider", fmt.Sprintf("unknown provider %q", r.Provider)}
		}
		if len(n.audiences) == 0 {
			n.audiences = n.provider.Audiences
		}
		return n, nil
	case AllowMissing, AllowMissingOrFailed:
		if n.watched = beside; len(beside) == 0 {
			n.watched = a.providers
		}
		return n, nil
	case RequireAny, RequireAll:
	default:
		return nil, &FieldError{at, fmt.Sprintf("unknown requirement kind %d", r.Kind)}
	}
	if len(r.Of) == 0 {
		return nil, &FieldError{at, "any and all need at least one requirement"}
	}
	var siblings []*provider
	if r.Kind == RequireAny {
		for _, k := range r.Of {
			if k.Kind == RequireProvider && byName[k.Provider] != nil {
				siblings = append(siblings, byName[k.Provider])
			}
		}
	}
	for i, k := range r.Of {
		c, err := a.tree(k, at+".of["+strconv.Itoa(i)+"]", byName, siblings)
		if err != nil {
			return nil, err
		}
		n.of = append(n.of, c)
	}
	return n, nil
}

// Check reads and verifies the tokens of r and fills res. It blocks only for
// remote keys that are not there yet, at most for their fetch timeout or until
// ctx ends.
func (a *Authenticator) Check(ctx context.Context, r *attrs.Request, res *Result) {
	res.reset()
	res.Remove = append(res.Remove, a.sanitize...)
	if a.root == nil || a.preflight && isPreflight(r) {
		return
	}
	if st := a.eval(ctx, a.root, r, res); st != ok {
		res.deny(st)
		return
	}
	res.apply(r)
}

func isPreflight(r *attrs.Request) bool {
	if r.Method != "OPTIONS" {
		return false
	}
	origin, _ := r.Header("origin")
	method, _ := r.Header("access-control-request-method")
	return origin != "" && method != ""
}

func (a *Authenticator) eval(ctx context.Context, n *node, r *attrs.Request, res *Result) status {
	switch n.kind {
	case RequireProvider:
		return a.require(ctx, n, r, res)
	case RequireAll:
		for _, k := range n.of {
			if st := a.eval(ctx, k, r, res); st != ok {
				return st
			}
		}
		return ok
	case RequireAny:
		// What went wrong is more telling than a token of a stranger, and that
		// more than none.
		out, hits := missed, len(res.hits)
		for _, k := range n.of {
			st := a.eval(ctx, k, r, res)
			if st == ok {
				return ok
			}
			res.hits = res.hits[:hits]
			if st != missed && (st != unknownIssuer || out == missed) {
				out = st
			}
		}
		return out
	case AllowMissing, AllowMissingOrFailed:
		return a.watch(ctx, n, r, res)
	}
	return missed
}

// require wants a token for one provider. All tokens at its places must be valid:
// behind a good one a bad one would reach the application.
func (a *Authenticator) require(ctx context.Context, n *node, r *attrs.Request, res *Result) status {
	start := len(res.found)
	res.found = n.provider.extract(r, res.found)
	tokens := res.found[start:]
	res.found = res.found[:start]
	switch {
	case len(tokens) == 0:
		return missed
	case len(tokens) > maxTokens:
		return tooMany
	}
	for _, f := range tokens {
		v, st := a.verify(ctx, n.provider, n.audiences, f.token)
		if st != ok {
			return st
		}
		res.hits = append(res.hits, hit{n.provider, v, f})
	}
	return ok
}

// watch reads the tokens of the watched providers, of which none is needed. A
// token is good if one of the providers that would find it accepts it.
func (a *Authenticator) watch(ctx context.Context, n *node, r *attrs.Request, res *Result) status {
	start := len(res.found)
	for _, p := range n.watched {
		res.found = p.extract(r, res.found)
	}
	tokens := res.found[start:]
	defer func() { res.found = res.found[:start] }()
	if len(tokens) > maxTokens*max(1, len(n.watched)) {
		return orOK(n, tooMany)
	}
	for i, f := range tokens {
		if slices.Contains(tokens[:i], f) {
			continue // another provider watches the same place
		}
		out := unknownIssuer
		for _, p := range n.watched {
			if !p.finds(f) {
				continue
			}
			v, st := a.verify(ctx, p, p.Audiences, f.token)
			if st == ok {
				res.hits = append(res.hits, hit{p, v, f})
				out = ok
				break
			}
			if st != unknownIssuer {
				out = st
			}
		}
		if out != ok && n.kind == AllowMissing {
			return out
		}
	}
	return ok
}

func orOK(n *node, st status) status {
	if n.kind == AllowMissingOrFailed {
		return ok
	}
	return st
}

// finds reports whether p looks where f was found.
func (p *provider) finds(f found) bool {
	switch f.place {
	case inHeader:
		for i := range p.headers {
			if p.headers[i].Name == f.name && p.headers[i].Prefix == f.prefix {
				return true
			}
		}
		return false
	case inParam:
		return slices.Contains(p.params, f.name)
	}
	return slices.Contains(p.cookies, f.name)
}
