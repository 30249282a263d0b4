package house

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// docLink is a link to a name of the same package, as go doc follows it.
var docLink = regexp.MustCompile(`\[\*?([A-Z]\w+(?:\.[A-Z]\w*)?)\]`)

// TestDocLinks looks for the names that comments in front of packages and
// declarations link to.
func TestDocLinks(t *testing.T) {
	type scope struct {
		names    map[string]bool
		comments []string
	}
	scopes := map[string]*scope{} // by folder and package name
	eachFile(t, func(path string, src []byte) {
		f, err := parser.ParseFile(token.NewFileSet(), path, src, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		key := filepath.ToSlash(filepath.Dir(path)) + " " + f.Name.Name
		s := scopes[key]
		if s == nil {
			s = &scope{names: map[string]bool{}}
			scopes[key] = s
		}
		declared(f, s.names)
		s.comments = append(s.comments, f.Doc.Text())
		for _, d := range f.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				s.comments = append(s.comments, d.Doc.Text())
			case *ast.GenDecl:
				s.comments = append(s.comments, d.Doc.Text())
			}
		}
	})
	links := 0
	for key, s := range scopes {
		for _, c := range s.comments {
			for line := range strings.Lines(c) {
				if strings.HasPrefix(line, "\t") {
					continue // code
				}
				for _, m := range docLink.FindAllStringSubmatch(line, -1) {
					if links++; !s.names[m[1]] {
						t.Errorf("%s: a comment links to [%s], which is not there", key, m[1])
					}
				}
			}
		}
	}
	if links < 100 {
		t.Errorf("found %d links: is the pattern right?", links)
	}
}

// declared notes the names of a file's top level, and those of methods and fields
// behind their type's.
func declared(f *ast.File, names map[string]bool) {
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			name := d.Name.Name
			if d.Recv != nil {
				name = receiver(d.Recv.List[0].Type) + "." + name
			}
			names[name] = true
		case *ast.GenDecl:
			for _, s := range d.Specs {
				switch s := s.(type) {
				case *ast.ValueSpec:
					for _, n := range s.Names {
						names[n.Name] = true
					}
				case *ast.TypeSpec:
					names[s.Name.Name] = true
					for _, n := range members(s.Type) {
						names[s.Name.Name+"."+n] = true
					}
				}
			}
		}
	}
}

// receiver is the name of a method's type.
func receiver(e ast.Expr) string {
	for {
		switch x := e.(type) {
		case *ast.StarExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.Ident:
			return x.Name
		default:
			return ""
		}
	}
}

// members are the fields of a struct, or the methods of an interface.
func members(e ast.Expr) (names []string) {
	var l *ast.FieldList
	switch x := e.(type) {
	case *ast.StructType:
		l = x.Fields
	case *ast.InterfaceType:
		l = x.Methods
	default:
		return nil
	}
	for _, f := range l.List {
		for _, n := range f.Names {
			names = append(names, n.Name)
		}
		if len(f.Names) == 0 { // embedded
			if n := receiver(f.Type); n != "" {
				names = append(names, n)
			}
		}
	}
	return names
}
