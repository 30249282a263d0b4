package extauthz

import (
	"slices"
	"testing"

	"waypoint.dev/waypoint/internal/attrs"
)

func TestResolve(t *testing.T) {
	have := []attrs.Field{{Name: "a", Value: "1"}, {Name: "a", Value: "2"}, {Name: "b", Value: "3"}, {Name: "z", Value: "9"}}
	tests := []struct {
		name   string
		edits  []Edit
		remove []string
		add    []attrs.Field
	}{
		{"none", nil, nil, nil},
		{"set", []Edit{{Set, "a", "x"}}, []string{"a"}, []attrs.Field{{Name: "a", Value: "x"}}},
		{"set then remove", []Edit{{Set, "a", "x"}, {Remove, "a", ""}}, []string{"a"}, nil},
		{"add", []Edit{{Add, "b", "x"}}, []string{"b"}, []attrs.Field{{Name: "b", Value: "3"}, {Name: "b", Value: "x"}}},
		{"append joins", []Edit{{Append, "b", "x"}}, []string{"b"}, []attrs.Field{{Name: "b", Value: "3,x"}}},
		{"append to nothing", []Edit{{Append, "n", "x"}}, []string{"n"}, nil},
		{"append to what was set", []Edit{{Set, "n", "x"}, {Append, "n", "y"}}, []string{"n"}, []attrs.Field{{Name: "n", Value: "x,y"}}},
		{"absent", []Edit{{AddIfAbsent, "n", "x"}, {AddIfAbsent, "b", "x"}}, []string{"n", "b"}, []attrs.Field{{Name: "n", Value: "x"}, {Name: "b", Value: "3"}}},
		{"exists", []Edit{{SetIfExists, "n", "x"}, {SetIfExists, "b", "x"}}, []string{"n", "b"}, []attrs.Field{{Name: "b", Value: "x"}}},
	}
	for _, tt := range tests {
		remove, add := Resolve(tt.edits, have)
		if !slices.Equal(remove, tt.remove) || !slices.Equal(add, tt.add) {
			t.Errorf("%s: remove %v, add %v", tt.name, remove, add)
		}
	}
	if have[2].Value != "3" {
		t.Error("the request's headers changed")
	}
}

func TestQuery(t *testing.T) {
	tests := []struct {
		in, want string
		o        Outcome
	}{
		{"a=1&b=2", "a=1&b=2", Outcome{}},
		{"a=1&b=2&a=3", "b=2&a=x+y", Outcome{QuerySet: []Param{{"a", "x y"}}}},
		{"a=1&b=2&%61=3", "b=2", Outcome{QueryRemove: []string{"a"}}},
		{"", "c=%26", Outcome{QuerySet: []Param{{"c", "&"}}}},
		{"a=1", "", Outcome{QuerySet: []Param{{"a", "2"}}, QueryRemove: []string{"a"}}},
		{"%zz=1", "%zz=1", Outcome{QueryRemove: []string{"a"}}},
	}
	for _, tt := range tests {
		got, changed := tt.o.Query(tt.in)
		if got != tt.want || changed != (len(tt.o.QuerySet)+len(tt.o.QueryRemove) > 0) {
			t.Errorf("%q: %q, changed %v", tt.in, got, changed)
		}
	}
}
