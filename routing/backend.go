package routing

import "fmt"

// CompiledBackend is one backend of a rule, ready to act. What it says of rewrites,
// CORS and mirrors is what holds for its share: the rule's and its own together.
//
//	headers   both edit: the backend's first, then the rule's (Envoy's order)
//	rewrite   of host and of path, the backend's takes the place of the rule's
//	CORS      the backend's takes the place of the rule's, for preflights too
//	mirrors   all of them copy, the rule's and the backend's
//	redirect  answers the share; nothing is forwarded, rewritten or copied
//
// The more specific wins where only one can, as Envoy resolves what a route and a
// cluster of its weighted ones both configure.
type CompiledBackend struct {
	Backend // as the source wrote it, but for what Invalid says

	Request *HeaderOps  // the backend's own, cleaned of repeats
	Reply   *HeaderOps  // likewise, for the response
	Rewrite *Rewriter   // nil: path and host stay
	CORS    *CORSPolicy // nil: none
	Mirrors []Mirror    // usable ones only
}

// backends builds the weighted backends of the rule behind its own filters.
func (c *compiler) backends(out *Compiled) {
	in := c.rule.Backends
	if len(in) == 0 {
		return
	}
	out.Backends = make([]CompiledBackend, len(in))
	out.bounds = make([]uint64, len(in))
	var sum uint64
	for i := range in {
		b := &out.Backends[i]
		b.Backend = in[i]
		c.backendFilters(fmt.Sprintf("backends[%d]", i), b, out)
		sum += uint64(b.Weight)
		out.bounds[i] = sum
	}
}

// backendFilters builds what acts on the share of one backend. What is wrong makes it
// invalid, and its share answers 500.
func (c *compiler) backendFilters(field string, b *CompiledBackend, rule *Compiled) {
	c.backend = b
	f := &b.Filters
	own := c.filters(field+".filters", f)
	b.Request, b.Reply = own.request, own.reply
	b.Rewrite = rule.Rewrite.under(own.rewrite)
	b.CORS = rule.CORS
	if own.cors != nil {
		b.CORS, rule.BackendCORS = own.cors, true
	}
	b.Mirrors = rule.Mirrors
	if len(own.mirrors) > 0 {
		b.Mirrors = append(append([]Mirror(nil), rule.Mirrors...), own.mirrors...)
	}
	if b.Redirect != nil {
		if err := b.Redirect.check(); err != nil {
			c.errorf(true, field+".redirect", "%v", err)
		}
		if f.Rewrite != nil {
			c.errorf(true, field, "both redirect and rewrite")
		}
	}
	c.backend = nil
	if b.Invalid == "" {
		return
	}
	if b.Status == 0 {
		b.Status = 500 // Gateway API: an invalid backend's share answers 500
	}
	b.Redirect, b.CORS, b.Rewrite, b.Mirrors = nil, rule.CORS, nil, nil
}
