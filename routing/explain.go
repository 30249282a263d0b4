package routing

import "waypoint.dev/waypoint/internal/attrs"

// Considered is what became of one candidate, in order of precedence.
type Considered struct {
	Kind    string `json:"kind,omitempty"`
	Route   string `json:"route,omitempty"` // namespace/name
	Rule    string `json:"rule"`            // name, or index in the route
	Match   int    `json:"match"`           // index in the rule, -1 if it has none
	Wants   string `json:"wants"`           // the conditions, as in a dump
	Outcome string `json:"outcome"`         // "won", "lost" or "shadowed"
	Field   string `json:"field,omitempty"` // lost: the first condition that failed
	Why     string `json:"why,omitempty"`   // for people
	Broken  string `json:"broken,omitempty"`
}

// Outcomes of a candidate.
const (
	Won      = "won"
	Lost     = "lost"     // a condition failed
	Shadowed = "shadowed" // all conditions hold, another one comes first
)

// Explain evaluates every candidate as [Table.Match] does, without the index, and
// says what each came to. It allocates; strings in it outlive r.
func (t *Table) Explain(r *attrs.Request) []Considered {
	if t == nil {
		return nil
	}
	out := make([]Considered, 0, len(t.candidates))
	winner := -1
	for i := range t.candidates {
		k := &t.candidates[i]
		c := Considered{
			Kind: k.rule.Rule.Kind, Route: k.rule.Rule.Route, Rule: k.rule.Label(),
			Match: k.match, Wants: k.text(), Broken: k.rule.Broken,
		}
		field, why := k.failure(r)
		switch {
		case field != "":
			c.Outcome, c.Field, c.Why = Lost, field, why
		case winner >= 0:
			w := &out[winner]
			c.Outcome = Shadowed
			c.Why = "comes after " + w.Route + " rule " + w.Rule
		default:
			winner = i
			c.Outcome = Won
		}
		out = append(out, c)
	}
	return out
}

// failure returns the first condition that does not hold, empty if all do.
func (k *candidate) failure(r *attrs.Request) (field, why string) {
	if _, ok := k.path.match(r.Path); !ok {
		return "path", "path is " + quote(r.Path)
	}
	if k.method != "" && k.method != r.Method {
		return "method", "method is " + quote(r.Method)
	}
	for i := range k.headers {
		if v := &k.headers[i]; !v.header(r) {
			return "header " + v.name, v.got(r)
		}
	}
	for i := range k.query {
		if v := &k.query[i]; !v.query(r) {
			if s, ok := r.QueryParam(v.name); ok {
				return "query " + v.name, "parameter is " + quote(s)
			}
			return "query " + v.name, "parameter is missing"
		}
	}
	if k.author != nil && !k.author.header(r) {
		return "authority", "authority is " + quote(r.Authority)
	}
	if k.scheme != nil && !k.scheme.header(r) {
		return "scheme", "scheme is " + quote(r.Scheme)
	}
	for i := range k.claims {
		if cl := &k.claims[i]; !cl.holds(r.Claims) {
			if r.Claims == nil {
				return "claim " + cl.name(), "no verified token"
			}
			return "claim " + cl.name(), "claim differs"
		}
	}
	return "", ""
}

// got says what the request has for a header condition.
func (v *value) got(r *attrs.Request) string {
	switch v.part {
	case partAuthority:
		return "authority is " + quote(r.Authority)
	case partMethod:
		return "method is " + quote(r.Method)
	case partScheme:
		return "scheme is " + quote(r.Scheme)
	}
	got := ""
	for i := range r.Headers {
		if r.Headers[i].Name == v.name {
			if got != "" {
				got += " and "
			}
			got += quote(r.Headers[i].Value)
		}
	}
	if got == "" {
		return "header is missing"
	}
	return "header is " + got
}
