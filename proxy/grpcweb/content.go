package grpcweb

import (
	"strings"

	"waypoint.dev/waypoint/internal/attrs"
)

// Content types of gRPC-Web (grpc/doc/PROTOCOL-WEB.md). Envoy knows no other
// message format than protobuf and compares them as they stand.
const (
	web       = "application/grpc-web"
	webProto  = "application/grpc-web+proto"
	text      = "application/grpc-web-text"
	textProto = "application/grpc-web-text+proto"

	// ContentType is what the backend gets instead.
	ContentType = "application/grpc"
)

// Is reports whether a request of this content type is translated.
func Is(contentType string) bool {
	switch contentType {
	case web, webProto, text, textProto:
		return true
	}
	return false
}

// isText reports whether a content type, or what a client accepts, is base64.
func isText(v string) bool { return v == text || v == textProto }

// Request edits the fields of a gRPC-Web request in place into those of gRPC and
// returns them.
func Request(fs []attrs.Field) []attrs.Field {
	encoding := false
	out := fs[:0]
	for _, f := range fs {
		switch f.Name {
		case "content-type":
			f.Value = ContentType
		case "content-length":
			continue
		case "grpc-accept-encoding":
			encoding = true
		}
		out = append(out, f)
	}
	if !encoding {
		out = append(out, attrs.Field{Name: "grpc-accept-encoding", Value: "identity"})
	}
	return out
}

// gRPC reports whether a response is one of gRPC, or of a backend that speaks
// gRPC-Web itself. alone says that it is a head without body or trailers.
func gRPC(status int, fs []attrs.Field, alone bool) bool {
	if alone {
		_, ok := find(fs, "grpc-status")
		return ok
	}
	if status != 200 {
		return false
	}
	ct, _ := find(fs, "content-type")
	if rest, ok := strings.CutPrefix(ct, ContentType); ok && (rest == "" || rest[0] == '+' || rest[0] == ';') {
		return true
	}
	ct, _, _ = strings.Cut(ct, ";")
	ct = strings.TrimRight(ct, " \t")
	return strings.EqualFold(ct, web) || strings.EqualFold(ct, webProto)
}

func find(fs []attrs.Field, name string) (string, bool) {
	for i := range fs {
		if fs[i].Name == name {
			return fs[i].Value, true
		}
	}
	return "", false
}
