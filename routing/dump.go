package routing

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

func quote(s string) string { return strconv.Quote(s) }

// Dump renders the table as stable text: the candidates in the order they are tried,
// then what each rule does. Backends are named by ref, an index into refs (nil: the
// bare number).
func (t *Table) Dump(refs []string) string {
	var b strings.Builder
	if t == nil {
		return "no table\n"
	}
	if t.order == AsListed {
		b.WriteString("order: as listed\n")
	} else {
		b.WriteString("order: by precedence\n")
	}
	b.WriteString("candidates:\n")
	for i := range t.candidates {
		k := &t.candidates[i]
		fmt.Fprintf(&b, "  %d: %s -> %s", i, k.text(), k.rule.title())
		if k.match >= 0 {
			fmt.Fprintf(&b, " match %d", k.match)
		}
		b.WriteByte('\n')
	}
	b.WriteString("rules:\n")
	for _, r := range t.rules {
		fmt.Fprintf(&b, "  %s\n", r.title())
		for _, line := range r.describe(refs) {
			fmt.Fprintf(&b, "    %s\n", line)
		}
	}
	return b.String()
}

func (c *Compiled) title() string {
	r := c.Rule
	name := r.Route
	if name == "" {
		name = "(default)"
	}
	if r.Kind != "" {
		name = r.Kind + " " + name
	}
	return name + " rule " + c.Label()
}

// describe lists what the rule does, one thing a line.
func (c *Compiled) describe(refs []string) []string {
	if c.Broken != "" {
		return []string{"broken, answers 500: " + c.Broken}
	}
	var out []string
	add := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	if s := c.Request.text(); s != "" {
		add("request headers: %s", s)
	}
	if s := c.Reply.text(); s != "" {
		add("response headers: %s", s)
	}
	if c.Rewrite != nil {
		add("rewrite: %s", c.Rewrite.describe())
	}
	if c.CORS != nil {
		add("cors: %s", c.CORS.describe())
	}
	for i := range c.Mirrors {
		add("%s", c.Mirrors[i].describe(refs))
	}
	r := c.Rule
	for _, d := range []struct {
		name string
		d    time.Duration
	}{{"timeout", r.Timeout}, {"try timeout", r.TryTimeout}, {"idle timeout", r.IdleTimeout}, {"max duration", r.MaxDuration}} {
		if d.d != 0 {
			add("%s: %s", d.name, d.d)
		}
	}
	switch {
	case c.Redirect != nil:
		add("redirect: %s", c.Redirect.describe())
	case c.Direct != nil:
		add("answer: %d %s", c.Direct.Status, quote(c.Direct.Body))
	case len(c.bounds) == 0 || c.bounds[len(c.bounds)-1] == 0:
		add("answer: 500, no backend with a weight")
	}
	for i := range c.Backends {
		b := &c.Backends[i]
		s := fmt.Sprintf("backend %s weight %d", refName(refs, b.Ref), b.Weight)
		if b.Invalid != "" {
			s = fmt.Sprintf("backend invalid weight %d, answers %d: %s", b.Weight, b.Status, b.Invalid)
		}
		for _, line := range b.describe(refs) {
			s += "; " + line
		}
		add("%s", s)
	}
	return out
}

// describe lists what holds for the backend's share because of its own filters.
func (b *CompiledBackend) describe(refs []string) (out []string) {
	if h := b.Request.text(); h != "" {
		out = append(out, "request headers: "+h)
	}
	if h := b.Reply.text(); h != "" {
		out = append(out, "response headers: "+h)
	}
	if b.Invalid != "" {
		return out
	}
	if b.Filters.Rewrite != nil {
		out = append(out, "rewrite: "+b.Rewrite.describe())
	}
	if b.Filters.CORS != nil {
		out = append(out, "cors: "+b.CORS.describe())
	}
	if len(b.Filters.Mirrors) > 0 {
		for i := range b.Mirrors {
			out = append(out, b.Mirrors[i].describe(refs))
		}
	}
	if b.Redirect != nil {
		out = append(out, "redirect: "+b.Redirect.describe())
	}
	return out
}

func (m *Mirror) describe(refs []string) string {
	share := "all"
	if m.Denominator != 0 {
		share = fmt.Sprintf("%d/%d", m.Numerator, m.Denominator)
	}
	return "mirror " + share + " to " + refName(refs, m.Ref)
}

func refName(refs []string, i int) string {
	if i >= 0 && i < len(refs) {
		return refs[i]
	}
	return "#" + strconv.Itoa(i)
}

func (o *HeaderOps) text() string {
	if o == nil {
		return ""
	}
	var parts []string
	for _, n := range o.Remove {
		parts = append(parts, "remove "+n)
	}
	for _, v := range o.Set {
		parts = append(parts, "set "+v.Name+"="+quote(v.Value+v.Format))
	}
	for _, v := range o.Add {
		parts = append(parts, "add "+v.Name+"="+quote(v.Value+v.Format))
	}
	return strings.Join(parts, ", ")
}

func (w *Rewriter) describe() string {
	var parts []string
	if w.Host != "" {
		parts = append(parts, "host "+w.Host)
	}
	switch w.op {
	case rewriteFull:
		parts = append(parts, "path "+quote(w.text))
	case rewriteSegments:
		parts = append(parts, "prefix "+quote(w.text+"/")+" by segments")
	case rewriteRaw:
		parts = append(parts, "prefix "+quote(w.text))
	case rewriteTail:
		parts = append(parts, "strip "+quote(w.strip))
	case rewriteRegex:
		parts = append(parts, "regex "+quote(w.regex.String())+" to "+quote(w.text))
	}
	return strings.Join(parts, ", ")
}

func (d *Redirect) describe() string {
	s := strconv.Itoa(d.Code())
	for _, p := range []struct {
		name, value string
	}{{"scheme", d.Scheme}, {"host", d.Host}} {
		if p.value != "" {
			s += " " + p.name + " " + p.value
		}
	}
	if d.Port != 0 {
		s += " port " + strconv.Itoa(d.Port)
	}
	if d.FullPath != nil {
		s += " path " + quote(*d.FullPath)
	}
	if d.PrefixReplace != nil {
		s += " prefix " + quote(*d.PrefixReplace)
		if !d.RawPrefix {
			s += " by segments"
		}
	}
	return s
}

func (p *CORSPolicy) describe() string {
	var origins []string
	for i := range p.origins {
		switch o := &p.origins[i]; {
		case o.wildcard:
			origins = append(origins, o.before+"*"+o.rest)
		case o.text.op == opAny:
			origins = append(origins, "*")
		default:
			origins = append(origins, o.text.describe())
		}
	}
	s := "origins " + strings.Join(origins, " ")
	for _, f := range []struct {
		name, value string
		echo        bool
	}{{"methods", p.methods, p.anyMethod}, {"headers", p.headers, p.anyHeader}, {"expose", p.expose, false}, {"max age", p.age, false}} {
		if f.echo {
			s += ", " + f.name + " as asked"
		} else if f.value != "" {
			s += ", " + f.name + " " + f.value
		}
	}
	if p.credentials {
		s += ", credentials"
	}
	if p.forwardUnmatched {
		s += ", forwards unmatched preflights"
	}
	return s
}

// text renders the conditions of a candidate, reduced as they are compared.
func (k *candidate) text() string {
	var parts []string
	switch p := &k.path; p.op {
	case pathExact:
		parts = append(parts, "path = "+quote(p.key)+foldMark(p.fold))
	case pathSegments:
		parts = append(parts, "path under "+quote(p.key+"/")+foldMark(p.fold))
	case pathText:
		s := "path " + p.text.describe()
		if p.text.op == opRegex && p.key != "" {
			s += " at " + quote(p.key)
		}
		parts = append(parts, s)
	}
	if k.method != "" {
		parts = append(parts, "method = "+k.method)
	}
	list := func(what string, vs []value) {
		for i := range vs {
			parts = append(parts, strings.TrimSpace(what+" "+vs[i].name)+" "+vs[i].describe())
		}
	}
	list("header", k.headers)
	list("query", k.query)
	if k.author != nil {
		parts = append(parts, "authority "+k.author.describe())
	}
	if k.scheme != nil {
		parts = append(parts, "scheme "+k.scheme.describe())
	}
	for i := range k.claims {
		parts = append(parts, "claim "+k.claims[i].name()+" "+k.claims[i].value.describe())
	}
	if len(parts) == 0 {
		return "everything"
	}
	return strings.Join(parts, " and ")
}

func (cl *claim) name() string { return strings.Join(cl.path, ".") }

func (v *value) describe() string {
	switch {
	case v.present && v.invert:
		return "missing"
	case v.present:
		return "present"
	case v.invert:
		return "not " + v.text.describe()
	}
	return v.text.describe()
}

func (t *text) describe() string {
	s := ""
	switch t.op {
	case opAny:
		s = "anything"
	case opExact:
		s = "= " + quote(t.lit)
	case opPrefix:
		s = "starts with " + quote(t.lit)
	case opSuffix:
		s = "ends with " + quote(t.lit)
	case opContains:
		s = "contains " + quote(t.lit)
	case opRegex:
		s = "matches " + quote(t.source)
	}
	if t.min > len(t.lit) {
		s += " and more"
	}
	return s + foldMark(t.fold)
}

func foldMark(fold bool) string {
	if fold {
		return " (any case)"
	}
	return ""
}
