package kube

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxFieldErrors bounds what is collected of one object.
const maxFieldErrors = 16

// maxDepth bounds nesting: no kind needs more, and the decoder recurses.
const maxDepth = 64

// report collects the field errors of one object.
type report struct{ errs Fields }

// addf adds an error. Of one field only the first is kept: what a value of the wrong
// type is not besides helps nobody.
func (r *report) addf(path, format string, args ...any) {
	if path != "" && slices.ContainsFunc(r.errs, func(e FieldError) bool { return e.Path == path }) {
		return
	}
	if len(r.errs) < maxFieldErrors {
		r.errs = append(r.errs, FieldError{path, fmt.Sprintf(format, args...)})
	}
}

func (r *report) err() error {
	if len(r.errs) == 0 {
		return nil
	}
	return r.errs
}

// strictDecode reads JSON into dst, a pointer to a struct. Unknown fields,
// duplicate keys and values of another type are reported with their JSON path, and
// the rest is still read. Null counts as absent, as the API server prunes it.
func strictDecode(raw []byte, dst any, r *report) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	s := strict{d: d, r: r}
	s.value(reflect.ValueOf(dst).Elem(), "", 0)
	if s.broken {
		return
	}
	if _, err := d.Token(); err != io.EOF {
		r.addf("", "data after the object")
	}
}

type strict struct {
	d      *json.Decoder
	r      *report
	broken bool
}

func (s *strict) token() json.Token {
	t, err := s.d.Token()
	if err != nil {
		if !s.broken {
			s.r.addf("", "%v", err)
		}
		s.broken = true
	}
	return t
}

var (
	durationType = reflect.TypeFor[Duration]()
	anyType      = reflect.TypeFor[any]()
)

// value reads the next value into v. An invalid v skips it.
func (s *strict) value(v reflect.Value, path string, depth int) {
	t := s.token()
	if s.broken {
		return
	}
	if depth > maxDepth {
		s.r.addf(path, "nested too deeply")
		s.broken = true
		return
	}
	if t == nil {
		return
	}
	for v.IsValid() && v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	if v.IsValid() && v.Type() == anyType {
		v.Set(reflect.ValueOf(s.free(t, path, depth)))
		return
	}
	switch t := t.(type) {
	case json.Delim:
		if t == '{' {
			s.object(v, path, depth)
		} else {
			s.array(v, path, depth)
		}
	case string:
		s.text(v, t, path)
	case json.Number:
		s.number(v, t, path)
	case bool:
		if !v.IsValid() {
			return
		}
		if v.Kind() != reflect.Bool {
			s.mismatch(v, "a boolean", path)
			s.keep(v, strconv.FormatBool(t))
			return
		}
		v.SetBool(t)
	}
}

// free reads a value of any shape.
func (s *strict) free(t json.Token, path string, depth int) any {
	d, ok := t.(json.Delim)
	if !ok {
		if t == nil {
			return ""
		}
		return t
	}
	// The content of opaque values is not looked at: only skip it.
	if d == '{' {
		s.object(reflect.Value{}, path, depth)
	} else {
		s.array(reflect.Value{}, path, depth)
	}
	return struct{}{}
}

func (s *strict) mismatch(v reflect.Value, got, path string) {
	want := wantOf(v.Type())
	if v.Kind() == reflect.String && (got == "a number" || got == "a boolean") {
		want += ": quote it" // YAML reads 1, yes and on as something else
	}
	s.r.addf(path, "is %s, want %s", got, want)
}

// wantOf is what a value of a field is, in words.
func wantOf(t reflect.Type) string {
	if t == durationType {
		return "a duration"
	}
	return map[reflect.Kind]string{
		reflect.Struct: "an object", reflect.Map: "an object", reflect.Slice: "a list", reflect.String: "a string",
		reflect.Bool: "a boolean", reflect.Int32: "an integer", reflect.Int64: "an integer", reflect.Uint32: "an integer", reflect.Float64: "a number",
	}[t.Kind()]
}

// keep sets a string that was written without quotes. The object is refused all the
// same, and what its author meant tells which requests a broken rule is about.
func (s *strict) keep(v reflect.Value, text string) {
	if v.Kind() == reflect.String {
		v.SetString(text)
	}
}

func (s *strict) object(v reflect.Value, path string, depth int) {
	kind := reflect.Invalid
	if v.IsValid() {
		kind = v.Kind()
		if kind != reflect.Struct && kind != reflect.Map || v.Type() == durationType {
			s.mismatch(v, "an object", path)
			v, kind = reflect.Value{}, reflect.Invalid
		}
	}
	if kind == reflect.Map {
		v.Set(reflect.MakeMap(v.Type()))
	}
	seen := make(map[string]bool)
	for s.d.More() {
		key, _ := s.token().(string)
		if s.broken {
			return
		}
		at := path + "." + key
		if path == "" {
			at = key
		}
		if seen[key] {
			s.r.addf(at, "duplicate key")
		}
		seen[key] = true
		switch kind {
		case reflect.Struct:
			f := fieldByTag(v, key)
			if !f.IsValid() {
				s.r.addf(at, "unknown field")
			}
			s.value(f, at, depth+1)
		case reflect.Map:
			e := reflect.New(v.Type().Elem()).Elem()
			s.value(e, at, depth+1)
			v.SetMapIndex(reflect.ValueOf(key), e)
		default:
			s.value(reflect.Value{}, at, depth+1)
		}
		if s.broken {
			return
		}
	}
	s.token()
}

func (s *strict) array(v reflect.Value, path string, depth int) {
	if v.IsValid() && v.Kind() != reflect.Slice {
		s.mismatch(v, "a list", path)
		v = reflect.Value{}
	}
	if v.IsValid() {
		v.Set(reflect.MakeSlice(v.Type(), 0, 4))
	}
	for i := 0; s.d.More(); i++ {
		at := path + "[" + strconv.Itoa(i) + "]"
		if !v.IsValid() {
			s.value(v, at, depth+1)
		} else {
			e := reflect.New(v.Type().Elem()).Elem()
			s.value(e, at, depth+1)
			v.Set(reflect.Append(v, e))
		}
		if s.broken {
			return
		}
	}
	s.token()
}

func (s *strict) text(v reflect.Value, t, path string) {
	switch {
	case !v.IsValid():
	case v.Type() == durationType:
		d, err := time.ParseDuration(t)
		if err != nil {
			s.r.addf(path, "%q is no duration such as 500ms or 1h", t)
			return
		}
		v.SetInt(int64(d))
	case v.Kind() == reflect.String:
		v.SetString(t)
	default:
		s.mismatch(v, "a string", path)
	}
}

func (s *strict) number(v reflect.Value, n json.Number, path string) {
	if !v.IsValid() {
		return
	}
	if v.Type() == durationType {
		s.mismatch(v, "a number", path)
		return
	}
	switch v.Kind() {
	case reflect.Int32, reflect.Int64:
		// 80 and 80.0 are the same number in JSON.
		f, err := n.Float64()
		if err != nil || f != math.Trunc(f) || math.Abs(f) > 1<<53 || v.OverflowInt(int64(f)) {
			s.r.addf(path, "%s is no integer of this range", n)
			return
		}
		v.SetInt(int64(f))
	case reflect.Uint32:
		f, err := n.Float64()
		if err != nil || f != math.Trunc(f) || f < 0 || f > math.MaxUint32 {
			s.r.addf(path, "%s is no integer of this range", n)
			return
		}
		v.SetUint(uint64(f))
	case reflect.Float64:
		f, err := n.Float64()
		if err != nil {
			s.r.addf(path, "%v", err)
			return
		}
		v.SetFloat(f)
	default:
		s.mismatch(v, "a number", path)
		s.keep(v, n.String())
	}
}

// fieldByTag returns the field whose json tag is name.
func fieldByTag(v reflect.Value, name string) reflect.Value {
	t := v.Type()
	for i := range t.NumField() {
		f := t.Field(i)
		tag, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous && tag == "" {
			if e := fieldByTag(v.Field(i), name); e.IsValid() {
				return e
			}
			continue
		}
		if tag == name && tag != "" {
			return v.Field(i)
		}
	}
	return reflect.Value{}
}

// Duration is a duration written as Gateway API and Istio write it.
type Duration time.Duration

// UnmarshalJSON reads it where decoding is lenient.
func (d *Duration) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	v, err := time.ParseDuration(s)
	*d = Duration(v)
	return err
}
