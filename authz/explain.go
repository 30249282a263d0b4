package authz

import (
	"net/netip"
	"strconv"

	"waypoint.dev/waypoint/internal/attrs"
)

// Considered is one policy of an explanation.
type Considered struct {
	Policy  string        `json:"policy"` // "namespace/name"
	Action  string        `json:"action"`
	DryRun  bool          `json:"dryRun,omitempty"`
	Invalid string        `json:"invalid,omitempty"` // why it could not be read
	Matched bool          `json:"matched"`           // one of its rules did
	Rule    string        `json:"rule,omitempty"`    // the first that did
	Rules   []RuleOutcome `json:"rules,omitempty"`
}

// RuleOutcome is one rule of a Considered policy.
type RuleOutcome struct {
	Rule    string   `json:"rule"`
	Matched bool     `json:"matched"`
	Failed  []Failed `json:"failed,omitempty"` // conditions that did not hold
}

// Failed is a condition that did not hold.
type Failed struct {
	Field string `json:"field"`         // from[0].source.principals, or the attribute
	Saw   string `json:"saw,omitempty"` // the request's value
}

func (a Action) String() string {
	switch a {
	case Allow:
		return "ALLOW"
	case Deny:
		return "DENY"
	case Audit:
		return "AUDIT"
	case Custom:
		return "CUSTOM"
	}
	return "Action(" + strconv.Itoa(int(a)) + ")"
}

// Explain lists every policy considered, and which rule matched or which field
// failed. It allocates; it is for diagnosis. Nothing in it borrows from r.
func (e *Engine) Explain(r *attrs.Request) []Considered {
	if e == nil {
		return nil
	}
	return e.explain(requestInput(r))
}

// ExplainConn is Explain for a connection.
func (e *Engine) ExplainConn(c *attrs.Conn) []Considered {
	if e == nil {
		return nil
	}
	return e.explain(input{c: c})
}

func (e *Engine) explain(in input) []Considered {
	out := make([]Considered, 0, len(e.policies))
	for i := range e.policies {
		p := &e.policies[i]
		c := Considered{Policy: policyName(p), Action: p.Action.String(), DryRun: p.DryRun, Invalid: p.Invalid}
		if p.Invalid == "" {
			for j := range p.Rules {
				r := &p.Rules[j]
				x := r.When
				if in.r == nil && r.TCP != nil {
					x = r.TCP
				}
				o := RuleOutcome{Rule: r.name(p, j), Matched: x.eval(in)}
				if !o.Matched {
					o.Failed = x.failures(in, nil)
				} else if !c.Matched {
					c.Matched, c.Rule = true, o.Rule
				}
				c.Rules = append(c.Rules, o)
			}
		}
		out = append(out, c)
	}
	return out
}

// failures appends the conditions that keep e, which does not hold, from holding.
func (e *Expr) failures(in input, out []Failed) []Failed {
	if e == nil {
		return append(out, Failed{Field: "never matches"})
	}
	if e.field == "" && (e.op == opAnd || e.op == opOr) {
		for _, k := range e.kids {
			if !k.eval(in) {
				out = k.failures(in, out)
			}
		}
		if len(out) > 0 {
			return out
		}
	}
	f := Failed{Field: e.field}
	attr, saw := e.describe(in)
	if f.Field == "" {
		f.Field = attr
	}
	f.Saw = string([]byte(saw)) // a copy: the request is borrowed
	return append(out, f)
}

// describe names the attribute that e reads, and its value.
func (e *Expr) describe(in input) (attr, saw string) {
	r := in.r
	if r == nil {
		r = &attrs.Request{}
	}
	switch e.op {
	case opAnd, opOr, opNot:
		if len(e.kids) > 0 && e.kids[0] != nil {
			attr, saw = e.kids[0].describe(in)
			if e.op == opNot {
				attr = "not " + attr
			}
			return attr, saw
		}
	case opPort:
		return "destination port", strconv.Itoa(int(in.c.DestPort))
	case opDestIP:
		return "destination ip", addrString(in.c.Dest.Addr())
	case opSourceIP:
		return "source ip", addrString(in.c.Source.Addr())
	case opRemoteIP:
		return "remote ip", addrString(remote(in))
	case opPrincipal, opPrincipalSet, opNamespace, opServiceAccount, opTrustDomain:
		return "source principal", in.c.Peer.URI
	case opSNI:
		return "connection sni", in.c.SNI
	case opMethod:
		return "method", r.Method
	case opHost, opHostSet:
		return "host", r.Authority
	case opPath, opPathSet, opTemplate:
		return "path", r.Path
	case opHeader, opHeaderPresent, opHeaderRange:
		switch e.name {
		case ":method":
			return "method", r.Method
		case ":authority", "host":
			return "host", r.Authority
		}
		// The value stays out: it may be a credential.
		if _, ok := r.Header(e.name); ok {
			return "header " + e.name, "(present)"
		}
		return "header " + e.name, "(missing)"
	case opIssuer, opSubject, opClaim:
		if r.Claims == nil {
			return "token", "(no verified token)"
		}
		return "token", r.Claims.Issuer + "/" + r.Claims.Subject
	}
	return "never matches", ""
}

func addrString(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}
