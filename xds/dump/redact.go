package dump

import (
	"strings"

	"github.com/cncf/xds/go/udpa/annotations"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"
)

// redacted stands for a secret, as in Envoy's dumps.
const redacted = "[redacted]"

// clean replaces, in place, what must not be shown and what cannot be: fields
// marked udpa.annotations.sensitive, credentials in header values, and messages of
// types that are not linked.
func clean(m protoreflect.Message, secret bool) {
	if a, ok := m.Interface().(*anypb.Any); ok {
		cleanAny(a, secret)
		return
	}
	if name := m.Descriptor().Name(); name == "HeaderValue" {
		key := m.Get(m.Descriptor().Fields().ByName("key")).String()
		secret = secret || credential(key)
	}
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		hide := secret || sensitive(fd)
		switch {
		case fd.IsMap():
			v.Map().Range(func(k protoreflect.MapKey, mv protoreflect.Value) bool {
				if fd.MapValue().Message() != nil {
					clean(mv.Message(), hide)
				} else if hidden, ok := cover(fd.MapValue(), hide); ok {
					v.Map().Set(k, hidden)
				}
				return true
			})
		case fd.IsList():
			for i := range v.List().Len() {
				if fd.Message() != nil {
					clean(v.List().Get(i).Message(), hide)
				} else if hidden, ok := cover(fd, hide); ok {
					v.List().Set(i, hidden)
				}
			}
		case fd.Message() != nil:
			clean(v.Message(), hide)
		default:
			if fd.Name() == "key" && m.Descriptor().Name() == "HeaderValue" {
				return true
			}
			if hidden, ok := cover(fd, hide); ok {
				m.Set(fd, hidden)
			}
		}
		return true
	})
}

func cleanAny(a *anypb.Any, secret bool) {
	if a.TypeUrl == "" {
		return
	}
	inner, err := a.UnmarshalNew()
	if err != nil {
		why := "cannot be decoded"
		if err == protoregistry.NotFound {
			why = "type is not known to this proxy"
		}
		s, _ := structpb.NewStruct(map[string]any{"type_url": a.TypeUrl, "not_shown": why})
		_ = a.MarshalFrom(s) // a Struct of two strings always marshals
		return
	}
	clean(inner.ProtoReflect(), secret)
	_ = anypb.MarshalFrom(a, inner, proto.MarshalOptions{Deterministic: true})
}

func credential(header string) bool {
	switch strings.ToLower(header) {
	case "authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key":
		return true
	}
	return false
}

func sensitive(fd protoreflect.FieldDescriptor) bool {
	o := fd.Options()
	if !proto.HasExtension(o, annotations.E_Sensitive) {
		return false
	}
	v, _ := proto.GetExtension(o, annotations.E_Sensitive).(bool)
	return v
}

// cover returns what stands for a secret scalar. Numbers and enums say nothing.
func cover(fd protoreflect.FieldDescriptor, hide bool) (protoreflect.Value, bool) {
	if hide {
		switch fd.Kind() {
		case protoreflect.StringKind:
			return protoreflect.ValueOfString(redacted), true
		case protoreflect.BytesKind:
			return protoreflect.ValueOfBytes([]byte(redacted)), true
		}
	}
	return protoreflect.Value{}, false
}
