package stages

import (
	"context"
	"sync"

	"waypoint.dev/waypoint/authz/jwt"
	"waypoint.dev/waypoint/internal/attrs"
	"waypoint.dev/waypoint/proxy"
)

// verifier is the proxy.TokenVerifier of one stage.
type verifier struct {
	config *jwt.Config
	auth   *jwt.Authenticator
}

func (s *Stages) verifier(c *jwt.Config) (*verifier, error) {
	s.mesh.compiled()
	a, err := jwt.New(c, s.keys)
	if err != nil {
		return nil, err
	}
	v := &verifier{config: c, auth: a}
	s.mu.Lock()
	s.verifiers[v] = 0
	s.mu.Unlock()
	return v, nil
}

// checked is the result of one check in the form of a verdict. It is lent to the
// exchange, whose request borrows its strings.
type checked struct {
	res    jwt.Result
	remove []string
	add    []attrs.Field
	fields [1]attrs.Field
}

var checks = sync.Pool{New: func() any { return new(checked) }}

// Release implements proxy.Releaser.
func (c *checked) Release() { checks.Put(c) }

// Verify implements proxy.TokenVerifier.
func (v *verifier) Verify(ctx context.Context, r *attrs.Request) proxy.Verdict {
	c := checks.Get().(*checked)
	v.auth.Check(ctx, r, &c.res)
	res := &c.res
	if res.Status != 0 {
		c.fields[0] = attrs.Field{Name: "www-authenticate", Value: res.Challenge(r)}
		return proxy.Verdict{Status: res.Status, Body: res.Body, Details: res.Details, Reason: reasonDenied, Fields: c.fields[:], Hold: c}
	}
	c.remove = append(c.remove[:0], res.Remove...)
	c.add = c.add[:0]
	// All lines of these names are among those removed.
	for i := range res.Set {
		c.add = append(c.add, attrs.Field{Name: res.Set[i].Name, Value: res.Set[i].Value})
	}
	if res.CookiesChanged {
		c.remove = append(c.remove, "cookie")
		for _, line := range res.Cookies {
			c.add = append(c.add, attrs.Field{Name: "cookie", Value: line})
		}
	}
	return proxy.Verdict{
		Allow: true, Remove: c.remove, Add: c.add, Claims: res.Claims,
		Query: res.Query, HasQuery: res.HasQuery, QueryChanged: res.QueryChanged, Hold: c,
	}
}

// reasonDenied is the reason in the record of a request whose token is refused.
const reasonDenied = "jwt_denied"
