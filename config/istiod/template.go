package istiod

import (
	"fmt"
	"regexp"
	"strings"
)

// globClass is the alphabet of Envoy's URI templates: what "*" stands for a run of.
const globClass = `[a-zA-Z0-9\-._~%!$&'()+,;:@=*]`

// templatePart is one segment of an Envoy URI template.
type templatePart struct {
	text string // literal
	glob bool   // an operator, not a literal
	deep bool   // "**": any number of segments
	name string // of the variable, "" for a bare operator
}

// readTemplate reads Envoy's URI template and returns it in the {*} {**} form.
func readTemplate(s string) (string, []templatePart, error) {
	if !strings.HasPrefix(s, "/") {
		return "", nil, fmt.Errorf("path template %q must start with /", s)
	}
	var parts []templatePart
	var b strings.Builder
	for seg := range strings.SplitSeq(s[1:], "/") {
		p := templatePart{text: seg}
		switch {
		case seg == "*" || seg == "**":
			p = templatePart{glob: true, deep: seg == "**"}
		case strings.HasPrefix(seg, "{") && strings.HasSuffix(seg, "}"):
			name, pattern, ok := strings.Cut(seg[1:len(seg)-1], "=")
			if !ok {
				pattern = "*"
			}
			if pattern != "*" && pattern != "**" || name == "" {
				return "", nil, fmt.Errorf("path template %q: segment %q is not supported", s, seg)
			}
			p = templatePart{glob: true, deep: pattern == "**", name: name}
		case strings.ContainsAny(seg, "{}*"):
			return "", nil, fmt.Errorf("path template %q: segment %q is not supported", s, seg)
		}
		parts = append(parts, p)
		b.WriteByte('/')
		switch {
		case !p.glob:
			b.WriteString(p.text)
		case p.deep:
			b.WriteString("{**}")
		default:
			b.WriteString("{*}")
		}
	}
	return b.String(), parts, nil
}

// templateRewrite makes the substitution of a URI template rewrite: a regular
// expression for the matched template and RE2 replacement text.
func templateRewrite(parts []templatePart, rewrite string) (regex, subst string, err error) {
	var re strings.Builder
	groups := map[string]int{}
	re.WriteByte('^')
	for _, p := range parts {
		re.WriteByte('/')
		class := globClass + "+"
		if p.deep {
			class = `(?:` + globClass + `|/)*`
		}
		switch {
		case p.name != "":
			groups[p.name] = len(groups) + 1
			re.WriteString("(" + class + ")")
		case p.glob:
			re.WriteString(class)
		default:
			re.WriteString(regexp.QuoteMeta(p.text))
		}
	}
	re.WriteByte('$')
	var out strings.Builder
	for rest := rewrite; rest != ""; {
		i := strings.IndexByte(rest, '{')
		if i < 0 {
			out.WriteString(strings.ReplaceAll(rest, `\`, `\\`))
			break
		}
		j := strings.IndexByte(rest[i:], '}')
		if j < 0 {
			return "", "", fmt.Errorf("rewrite template %q is unbalanced", rewrite)
		}
		g, ok := groups[rest[i+1:i+j]]
		if !ok {
			return "", "", fmt.Errorf("rewrite template %q names %s, which the path template has not", rewrite, rest[i:i+j+1])
		}
		out.WriteString(strings.ReplaceAll(rest[:i], `\`, `\\`))
		fmt.Fprintf(&out, `\%d`, g)
		rest = rest[i+j+1:]
	}
	if len(groups) > 9 {
		return "", "", fmt.Errorf("path template has more than nine variables")
	}
	return re.String(), out.String(), nil
}
