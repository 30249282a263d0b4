package routing

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"waypoint.dev/waypoint/internal/attrs"
)

// Rewriter is a compiled [Rewrite]. A nil Rewriter changes nothing.
type Rewriter struct {
	Host string // empty: unchanged

	op    rewriteOp
	text  string // replacement
	strip string // opTail: what the path must start with
	regex *regexp.Regexp
	subst []piece
}

type rewriteOp uint8

const (
	rewriteNone rewriteOp = iota
	rewriteFull
	rewriteSegments // slash table of the Gateway API
	rewriteRaw
	rewriteTail // istiod's spelling of a prefix replaced by "/"
	rewriteRegex
)

// piece is literal text or, where group >= 0, what a group matched.
type piece struct {
	text  string
	group int
}

// NewRewriter compiles a rewrite.
func NewRewriter(w *Rewrite) (*Rewriter, error) {
	out := &Rewriter{Host: w.Host}
	if w.Host != "" && !validHost(w.Host) {
		return nil, fmt.Errorf("invalid host %q", w.Host)
	}
	if n := b2i(w.FullPath != nil) + b2i(w.PrefixReplace != nil) + b2i(w.Regex != ""); n > 1 {
		return nil, errors.New("more than one of full path, prefix and regex")
	}
	switch {
	case w.FullPath != nil:
		out.op, out.text = rewriteFull, *w.FullPath
	case w.PrefixReplace != nil && w.RawPrefix:
		out.op, out.text = rewriteRaw, *w.PrefixReplace
	case w.PrefixReplace != nil:
		out.op, out.text = rewriteSegments, strings.TrimSuffix(*w.PrefixReplace, "/")
	case w.Regex != "":
		if lit, ok := tailRewrite(w.Regex, w.RegexReplace); ok {
			out.op, out.strip = rewriteTail, lit
			break
		}
		re, err := regexp.Compile(w.Regex)
		if err != nil {
			return nil, err
		}
		out.op, out.regex = rewriteRegex, re
		if out.subst, err = parseSubst(w.RegexReplace, re.NumSubexp()); err != nil {
			return nil, err
		}
		out.text = w.RegexReplace
	}
	if !validPathText(out.text) {
		return nil, fmt.Errorf("replacement %q has a byte that no path may hold", out.text)
	}
	return out, nil
}

// tailRewrite recognizes "^/v2(/?)(.*)" with "/\2", as istiod sends a prefix replaced
// by "/", so that no expression runs for it.
func tailRewrite(regex, subst string) (lit string, ok bool) {
	if subst != `/\2` || !strings.HasPrefix(regex, "^/") || !strings.HasSuffix(regex, "(/?)(.*)") {
		return "", false
	}
	lit = regex[1 : len(regex)-len("(/?)(.*)")]
	return lit, regexp.QuoteMeta(lit) == lit
}

// parseSubst reads RE2 rewrite syntax: \0 to \9 are groups, \\ is a backslash.
func parseSubst(s string, groups int) ([]piece, error) {
	var out []piece
	var lit strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			lit.WriteByte(s[i])
			continue
		}
		i++
		switch {
		case i == len(s):
			return nil, errors.New(`replacement ends with \`)
		case s[i] == '\\':
			lit.WriteByte('\\')
		case '0' <= s[i] && s[i] <= '9':
			g := int(s[i] - '0')
			if g > groups {
				return nil, fmt.Errorf(`replacement uses \%d, the expression has %d groups`, g, groups)
			}
			if lit.Len() > 0 {
				out = append(out, piece{text: lit.String(), group: -1})
				lit.Reset()
			}
			out = append(out, piece{group: g})
		default:
			return nil, fmt.Errorf(`replacement has unknown escape \%c`, s[i])
		}
	}
	if lit.Len() > 0 {
		out = append(out, piece{text: lit.String(), group: -1})
	}
	return out, nil
}

// ChangesPath reports whether AppendPath may give another path.
func (w *Rewriter) ChangesPath() bool { return w != nil && w.op != rewriteNone }

// under returns what rewrites where w is a rule's and own is that of the backend: of
// host and path each, own's where it says something.
func (w *Rewriter) under(own *Rewriter) *Rewriter {
	switch {
	case own == nil:
		return w
	case w == nil:
		return own
	}
	out := *own
	if own.op == rewriteNone {
		out = *w
		out.Host = own.Host
	}
	if out.Host == "" {
		out.Host = w.Host
	}
	return &out
}

// AppendPath appends the rewritten path (without query) to dst. matched is
// [Result].Prefix. The outcome always starts with "/". Only a general regular
// expression allocates (the regexp package returns its groups in a new slice).
func (w *Rewriter) AppendPath(dst []byte, path string, matched int) []byte {
	if w == nil {
		return append(dst, path...)
	}
	start := len(dst)
	switch w.op {
	case rewriteFull:
		dst = append(dst, w.text...)
	case rewriteSegments:
		dst = appendSegments(dst, w.text, tail(path, matched))
	case rewriteRaw:
		dst = append(dst, w.text...)
		dst = append(dst, tail(path, matched)...)
	case rewriteTail:
		rest, ok := strings.CutPrefix(path, w.strip)
		if !ok {
			return append(dst, path...)
		}
		dst = append(dst, '/')
		dst = append(dst, strings.TrimPrefix(rest, "/")...)
	case rewriteRegex:
		dst = w.substitute(dst, path)
	default:
		return append(dst, path...)
	}
	return rooted(dst, start)
}

// AppendTarget appends the rewritten path and the request's query as sent.
func (w *Rewriter) AppendTarget(dst []byte, r *attrs.Request, matched int) []byte {
	dst = w.AppendPath(dst, r.Path, matched)
	if r.HasQuery {
		dst = append(dst, '?')
		dst = append(dst, r.Query...)
	}
	return dst
}

// substitute replaces every match, as RE2's GlobalReplace.
func (w *Rewriter) substitute(dst []byte, path string) []byte {
	at := 0
	for _, m := range w.regex.FindAllStringSubmatchIndex(path, -1) {
		dst = append(dst, path[at:m[0]]...)
		for _, p := range w.subst {
			if p.group < 0 {
				dst = append(dst, p.text...)
			} else if from := m[2*p.group]; from >= 0 {
				dst = append(dst, path[from:m[2*p.group+1]]...)
			}
		}
		at = m[1]
	}
	return append(dst, path[at:]...)
}

// appendSegments joins a replacement without trailing slash and what follows the
// matched prefix, by the table of the Gateway API's ReplacePrefixMatch.
func appendSegments(dst []byte, replacement, rest string) []byte {
	dst = append(dst, replacement...)
	if rest != "" && rest[0] != '/' {
		dst = append(dst, '/')
	}
	return append(dst, rest...)
}

// tail returns what follows the matched prefix.
func tail(path string, matched int) string {
	if matched >= len(path) {
		return ""
	}
	return path[matched:]
}

// rooted makes what was appended from start on begin with "/": anything else would
// be another form of request target (RFC 9112 section 3.2).
func rooted(dst []byte, start int) []byte {
	if len(dst) > start && dst[start] == '/' {
		return dst
	}
	dst = append(dst, 0)
	copy(dst[start+1:], dst[start:])
	dst[start] = '/'
	return dst
}

// validPathText refuses bytes that would end or split a request target.
func validPathText(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c == 0x7f || c == '#' {
			return false
		}
	}
	return true
}
