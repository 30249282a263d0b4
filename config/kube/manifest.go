package kube

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"sigs.k8s.io/yaml"
)

// Parse reads the objects of one manifest: YAML documents, JSON, and List kinds of
// both. name stands in each object's Source. An error means that the text as a
// whole is not to be used; what is wrong with a single object is in its Err.
func Parse(name string, data []byte) ([]*Object, error) {
	var out []*Object
	for _, d := range documents(data) {
		source := fmt.Sprintf("%s:%d", name, d.line)
		raw, err := yaml.YAMLToJSONStrict(d.text)
		var twice error
		if err != nil {
			// A key written twice spoils one object, not the file.
			if raw, twice = yaml.YAMLToJSON(d.text); twice != nil {
				return nil, fmt.Errorf("%s: %w", source, err)
			}
			twice = Fields{{"", strings.TrimSpace(strings.ReplaceAll(err.Error(), "\n", " "))}}
		}
		if s := bytes.TrimSpace(raw); len(s) == 0 || bytes.Equal(s, []byte("null")) {
			continue
		}
		objs, err := unlist(raw, source, 0)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", source, err)
		}
		if twice != nil {
			for _, o := range objs {
				o.Err = twice
			}
		}
		out = append(out, objs...)
	}
	return out, nil
}

// plain says what a JSON error means, without the names of Go types.
func plain(err error) string {
	var e *json.UnmarshalTypeError
	if !errors.As(err, &e) {
		return err.Error()
	}
	got := map[string]string{"array": "a list", "object": "an object", "string": "a string", "bool": "a boolean"}[e.Value]
	if got == "" {
		got = "a number" // or "number 1.5"
	}
	if e.Field == "" {
		return "is " + got
	}
	return e.Field + ": is " + got + ", want " + wantOf(e.Type)
}

// unlist decodes one JSON document, opening lists.
func unlist(raw []byte, source string, depth int) ([]*Object, error) {
	var list struct {
		APIVersion string            `json:"apiVersion"`
		Kind       string            `json:"kind"`
		Items      []json.RawMessage `json:"items"`
	}
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, fmt.Errorf("is no object: %s", plain(err))
	}
	if list.Items == nil || !strings.HasSuffix(list.Kind, "List") || depth > 4 {
		o, err := Decode(raw, source)
		if err != nil {
			return nil, err
		}
		return []*Object{o}, nil
	}
	var out []*Object
	for i, item := range list.Items {
		item = typed(item, list.APIVersion, list.Kind)
		objs, err := unlist(item, source, depth+1)
		if err != nil {
			return nil, fmt.Errorf("items[%d]: %w", i, err)
		}
		out = append(out, objs...)
	}
	return out, nil
}

// typed gives an item of a list of one kind, such as a ServiceList, the kind that it
// leaves out, as the API server's own answers do.
func typed(item json.RawMessage, version, kind string) json.RawMessage {
	var fields map[string]json.RawMessage
	if kind = strings.TrimSuffix(kind, "List"); kind == "" || json.Unmarshal(item, &fields) != nil || fields == nil {
		return item
	}
	if fields["kind"] != nil || fields["apiVersion"] != nil {
		return item
	}
	fields["kind"], _ = json.Marshal(kind)
	fields["apiVersion"], _ = json.Marshal(version)
	out, err := json.Marshal(fields)
	if err != nil {
		return item
	}
	return out
}

type document struct {
	text []byte
	line int // of its first line, from 1
}

// documents splits YAML at its document separators. JSON is one document.
func documents(data []byte) []document {
	var out []document
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	start, first, line := 0, 1, 0
	for pos := 0; pos <= len(data); {
		end := bytes.IndexByte(data[pos:], '\n')
		next := len(data) + 1
		text := data[pos:]
		if end >= 0 {
			text, next = data[pos:pos+end], pos+end+1
		}
		line++
		sep := bytes.HasPrefix(text, []byte("---")) && (len(bytes.TrimSpace(text[3:])) == 0 || text[3] == ' ' || text[3] == '\t')
		if sep {
			out = appendDocument(out, data[start:pos], first)
			// Text behind the separator ("--- # comment", "--- {a: b}") belongs to the document.
			start, first = pos+3, line
		}
		pos = next
	}
	return appendDocument(out, data[min(start, len(data)):], first)
}

func appendDocument(out []document, text []byte, line int) []document {
	for len(text) > 0 {
		// The line that is named is that of the first content.
		i := bytes.IndexByte(text, '\n')
		if i < 0 || len(bytes.TrimSpace(text[:i])) > 0 && bytes.TrimSpace(text[:i])[0] != '#' {
			break
		}
		text, line = text[i+1:], line+1
	}
	if len(bytes.TrimSpace(text)) == 0 {
		return out
	}
	return append(out, document{text, line})
}
