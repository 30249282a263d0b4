package kube

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"time"
)

// Key names an object. Group is empty for core kinds.
type Key struct {
	Group, Kind, Namespace, Name string
}

func (k Key) String() string {
	switch {
	case k.Name == "":
		return k.Kind
	case k.Namespace == "":
		return k.Kind + " " + k.Name
	}
	return k.Kind + " " + k.Namespace + "/" + k.Name
}

// Meta is what this package reads of an object's metadata.
type Meta struct {
	Name              string            `json:"name"`
	Namespace         string            `json:"namespace"`
	UID               string            `json:"uid"`
	Generation        int64             `json:"generation"`
	CreationTimestamp string            `json:"creationTimestamp"`
	Labels            map[string]string `json:"labels"`
	Annotations       map[string]string `json:"annotations"`
	OwnerReferences   []struct {
		Kind       string `json:"kind"`
		Name       string `json:"name"`
		Controller *bool  `json:"controller"`
	} `json:"ownerReferences"`
}

// Object is one decoded object. It is immutable once in a store, so that its
// pointer tells whether it changed.
type Object struct {
	Key
	Meta   Meta
	Source string // "file:line" or the name of the xDS resource
	Body   any    // *Service, *HTTPRoute, ...; nil for kinds that are not applied
	Err    error  // why it is not to be applied; Body is nil or incomplete

	advice  []advice
	created int64  // Unix seconds, 0 if unknown
	sum     uint64 // of the JSON
}

// Fields is the error of an object that fails decoding or validation: one line for
// each field.
type Fields []FieldError

// FieldError is what is wrong with one field.
type FieldError struct{ Path, Message string }

func (f FieldError) Error() string {
	if f.Path == "" {
		return f.Message
	}
	return f.Path + ": " + f.Message
}

func (f Fields) Error() string {
	s := ""
	for i, e := range f {
		if i > 0 {
			s += "; "
		}
		s += e.Error()
	}
	return s
}

// Decode reads one object from its JSON. It fails only if the JSON has no apiVersion,
// kind or name; what else is wrong is in the object's Err.
func Decode(raw []byte, source string) (*Object, error) {
	o := &Object{Source: source}
	head := struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
		Metadata   *Meta  `json:"metadata"`
	}{Metadata: &o.Meta}
	if err := json.Unmarshal(raw, &head); err != nil {
		return nil, headError(raw, err)
	}
	group, version := splitAPIVersion(head.APIVersion)
	if head.Kind == "" || head.APIVersion == "" {
		return nil, errNoKind
	}
	if _, known := kinds[groupKind{group, head.Kind}]; !known && o.Meta.Name == "" {
		o.Meta.Name = source // what is ignored need not have one
	}
	if o.Meta.Name == "" {
		return nil, fmt.Errorf("%s: metadata.name: required", head.Kind)
	}
	o.Key = Key{group, head.Kind, o.Meta.Namespace, o.Meta.Name}
	h := fnv.New64a()
	h.Write(raw)
	o.sum = h.Sum64()
	if t, err := time.Parse(time.RFC3339, o.Meta.CreationTimestamp); err == nil {
		o.created = t.Unix()
	}
	k, ok := kinds[groupKind{group, head.Kind}]
	if !ok {
		return o, nil
	}
	if k.cluster {
		o.Namespace, o.Meta.Namespace = "", ""
	} else if o.Namespace == "" {
		o.Namespace, o.Meta.Namespace = "default", "default" // as kubectl does
	}
	if !k.served(version) {
		o.Err = Fields{{"apiVersion", fmt.Sprintf("%q is not a served version of %s", head.APIVersion, head.Kind)}}
		return o, nil
	}
	if k.decode != nil {
		o.Body, o.Err = k.decode(raw)
	}
	if k.advise != nil {
		o.advice = k.advise(raw)
	}
	return o, nil
}

// headError says which part of an object cannot be read.
func headError(raw []byte, err error) error {
	var head struct {
		APIVersion string          `json:"apiVersion"`
		Kind       string          `json:"kind"`
		Metadata   json.RawMessage `json:"metadata"`
	}
	if first := json.Unmarshal(raw, &head); first != nil {
		return first
	}
	if head.Kind == "" || head.APIVersion == "" {
		return errNoKind
	}
	return fmt.Errorf("%s: %s", head.Kind, plain(err))
}

var errNoKind = errors.New("no apiVersion or kind: every document is a Kubernetes object")

func splitAPIVersion(s string) (group, version string) {
	for i := range len(s) {
		if s[i] == '/' {
			return s[:i], s[i+1:]
		}
	}
	return "", s
}
