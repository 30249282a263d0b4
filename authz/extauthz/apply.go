package extauthz

import (
	"net/url"
	"slices"
	"strings"

	"waypoint.dev/waypoint/internal/attrs"
)

// Resolve works the edits out against the headers they apply to. The effect is
// that of removing all lines of the returned names and then adding the returned
// lines.
func Resolve(edits []Edit, have []attrs.Field) (remove []string, add []attrs.Field) {
	for _, e := range edits {
		if !slices.Contains(remove, e.Name) { // first touched: its lines move over
			remove = append(remove, e.Name)
			for _, f := range have {
				if f.Name == e.Name {
					add = append(add, f)
				}
			}
		}
		last := -1
		for i := range add {
			if add[i].Name == e.Name {
				last = i
			}
		}
		line := attrs.Field{Name: e.Name, Value: e.Value}
		switch e.Op {
		case Append:
			if last >= 0 {
				add[last].Value += "," + e.Value
			}
			continue
		case AddIfAbsent:
			if last >= 0 {
				continue
			}
		case SetIfExists:
			if last < 0 {
				continue
			}
		}
		if e.Op == Set || e.Op == SetIfExists || e.Op == Remove {
			add = slices.DeleteFunc(add, func(f attrs.Field) bool { return f.Name == e.Name })
		}
		if e.Op != Remove {
			add = append(add, line)
		}
	}
	return remove, add
}

// Query returns the raw query with the outcome's parameters set, then removed.
// changed is false if there is nothing to do.
func (o *Outcome) Query(query string) (out string, changed bool) {
	if len(o.QuerySet)+len(o.QueryRemove) == 0 {
		return query, false
	}
	var pairs []string
	for query != "" {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		if pair != "" && !slices.Contains(o.QueryRemove, paramName(pair)) {
			pairs = append(pairs, pair)
		}
	}
	for _, p := range o.QuerySet {
		if slices.Contains(o.QueryRemove, p.Name) {
			continue
		}
		pairs = slices.DeleteFunc(pairs, func(pair string) bool { return paramName(pair) == p.Name })
		pairs = append(pairs, url.QueryEscape(p.Name)+"="+url.QueryEscape(p.Value))
	}
	return strings.Join(pairs, "&"), true
}

func paramName(pair string) string {
	name, _, _ := strings.Cut(pair, "=")
	if d, err := url.QueryUnescape(name); err == nil {
		return d
	}
	return name
}
