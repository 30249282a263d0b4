package authz

import "strings"

// ValueMatch compares one JSON value of a token, as Envoy's ValueMatcher does.
// It is immutable.
type ValueMatch struct {
	kind valueKind
	str  *matcher
	kids []*ValueMatch
}

type valueKind uint8

const (
	valueString valueKind = iota
	valueList
	valueAny
	valuePresent
)

// ValueString holds for a string that matches; numbers and booleans never do.
func ValueString(m StringMatch) (*ValueMatch, error) {
	c, err := m.compile()
	if err != nil {
		return nil, err
	}
	return &ValueMatch{kind: valueString, str: c}, nil
}

// ValueListOneOf holds for a list with at least one element that v matches.
func ValueListOneOf(v *ValueMatch) *ValueMatch {
	return &ValueMatch{kind: valueList, kids: []*ValueMatch{v}}
}

// ValueOr holds if one of vs does.
func ValueOr(vs ...*ValueMatch) *ValueMatch { return &ValueMatch{kind: valueAny, kids: vs} }

// ValuePresent holds for any value that is there.
func ValuePresent() *ValueMatch { return &ValueMatch{kind: valuePresent} }

// StringOrList holds for a string that matches one of vs, or a list with such a
// string: the form of claims in AuthorizationPolicy.
func StringOrList(vs ...StringMatch) (*ValueMatch, error) {
	or := &ValueMatch{kind: valueAny}
	for _, v := range vs {
		s, err := ValueString(v)
		if err != nil {
			return nil, err
		}
		or.kids = append(or.kids, s)
	}
	return ValueOr(ValueListOneOf(or), or), nil
}

// match tests a decoded JSON value.
func (v *ValueMatch) match(val any) bool {
	switch v.kind {
	case valueString:
		s, ok := val.(string)
		return ok && v.str.match(s)
	case valueList:
		switch l := val.(type) {
		case []any:
			for _, x := range l {
				if v.kids[0].match(x) {
					return true
				}
			}
		case []string:
			return v.matchStrings(l)
		}
	case valueAny:
		for _, k := range v.kids {
			if k.match(val) {
				return true
			}
		}
	case valuePresent:
		return val != nil
	}
	return false
}

// matchString tests a string without boxing it.
func (v *ValueMatch) matchString(s string) bool {
	switch v.kind {
	case valueString:
		return v.str.match(s)
	case valueAny:
		for _, k := range v.kids {
			if k.matchString(s) {
				return true
			}
		}
	case valuePresent:
		return true
	}
	return false
}

// matchStrings tests a list of strings.
func (v *ValueMatch) matchStrings(l []string) bool {
	switch v.kind {
	case valueList:
		for _, s := range l {
			if v.kids[0].matchString(s) {
				return true
			}
		}
	case valueAny:
		for _, k := range v.kids {
			if k.matchStrings(l) {
				return true
			}
		}
	case valuePresent:
		return true
	}
	return false
}

// matchSplit tests s as the list of its words.
func (v *ValueMatch) matchSplit(s string) bool {
	switch v.kind {
	case valueList:
		for s != "" {
			var word string
			word, s, _ = strings.Cut(s, " ")
			if word != "" && v.kids[0].matchString(word) {
				return true
			}
		}
	case valueAny:
		for _, k := range v.kids {
			if k.matchSplit(s) {
				return true
			}
		}
	case valuePresent:
		return true
	}
	return false
}
