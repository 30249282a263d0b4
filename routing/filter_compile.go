package routing

import "fmt"

// ownFilters are the compiled filters of a rule, or of a backend by itself.
type ownFilters struct {
	request, reply *HeaderOps
	rewrite        *Rewriter
	cors           *CORSPolicy
	mirrors        []Mirror
}

// compile builds everything of a rule but its matches.
func (c *compiler) compile() *Compiled {
	r := c.rule
	f := c.filters("filters", &r.Filters)
	out := &Compiled{
		Rule: r, Name: r.fullName(),
		Request: f.request, Reply: f.reply, Rewrite: f.rewrite, CORS: f.cors, Mirrors: f.mirrors,
	}
	c.action(out)
	if r.Broken != "" {
		c.broken = r.Broken
	}
	if c.broken != "" {
		out.fail(c.broken)
	}
	return out
}

// filters compiles one list of filters; field is where it stands.
func (c *compiler) filters(field string, f *Filters) (out ownFilters) {
	out.request = c.headerOps(field+".request", f.Request, true)
	out.reply = c.headerOps(field+".response", f.Response, false)
	if f.Rewrite != nil {
		w, err := NewRewriter(f.Rewrite)
		if err != nil {
			c.errorf(true, field+".rewrite", "%v", err)
		}
		out.rewrite = w
	}
	if f.CORS != nil {
		p, err := NewCORSPolicy(f.CORS)
		if err != nil {
			c.errorf(true, field+".cors", "%v", err)
		}
		out.cors = p
	}
	for i, m := range f.Mirrors {
		if m.Denominator != 0 && m.Numerator > m.Denominator {
			c.errorf(false, fmt.Sprintf("%s.mirrors[%d]", field, i), "share %d/%d is above one, mirrors every request", m.Numerator, m.Denominator)
			m.Numerator = m.Denominator
		}
		if m.Invalid == "" {
			out.mirrors = append(out.mirrors, m)
		}
	}
	return out
}

// action checks and builds the one thing the rule does.
func (c *compiler) action(out *Compiled) {
	r := c.rule
	if n := b2i(r.Redirect != nil) + b2i(r.Direct != nil) + b2i(len(r.Backends) > 0); n > 1 {
		c.errorf(true, "backends", "more than one of backends, redirect and direct response")
		return
	}
	if r.Redirect != nil {
		if err := r.Redirect.check(); err != nil {
			c.errorf(true, "redirect", "%v", err)
		}
		out.Redirect = r.Redirect
	}
	if r.Direct != nil {
		if r.Direct.Status < 200 || r.Direct.Status > 599 {
			c.errorf(true, "direct.status", "%d is not a final status", r.Direct.Status)
		}
		out.Direct = r.Direct
	}
	c.backends(out)
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}
