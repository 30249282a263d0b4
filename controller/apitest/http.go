package apitest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// decode reads JSON with integers as int64, as client-go does.
func decode(b []byte) Object {
	var o Object
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if d.Decode(&o) != nil {
		return nil
	}
	return numbers(o).(Object)
}

func numbers(v any) any {
	switch x := v.(type) {
	case json.Number:
		if n, err := x.Int64(); err == nil {
			return n
		}
		f, _ := x.Float64()
		return f
	case map[string]any:
		for k := range x {
			x[k] = numbers(x[k])
		}
	case []any:
		for i := range x {
			x[i] = numbers(x[i])
		}
	}
	return v
}

// parse finds the place that a path means.
func parse(path string) (Place, bool) {
	f := strings.Split(strings.Trim(path, "/"), "/")
	var p Place
	switch {
	case len(f) >= 3 && f[0] == "api":
		p.Version, f = f[1], f[2:]
	case len(f) >= 4 && f[0] == "apis":
		p.Group, p.Version, f = f[1], f[2], f[3:]
	default:
		return p, false
	}
	if f[0] == "namespaces" && len(f) > 2 {
		p.Namespace, f = f[1], f[2:]
	}
	p.Resource = f[0]
	if len(f) > 1 {
		p.Name = f[1]
	}
	if len(f) > 2 {
		p.Sub = f[2]
	}
	return p, true
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	p, ok := parse(r.URL.Path)
	if !ok {
		http.NotFound(w, r)
		return
	}
	s.mu.Lock()
	down, before, denied := s.down, s.before, s.denied[p.Resource]
	watching := r.URL.Query().Get("watch") == "true" || r.URL.Query().Get("watch") == "1"
	if !watching {
		s.requests[r.Method+" "+p.Resource]++
	}
	s.seen[Request{verb(r.Method, p, watching), named(p, r)}] = true
	s.mu.Unlock()
	if down {
		panic(http.ErrAbortHandler)
	}
	if denied && !watching {
		answer(w, nil, apierrors.NewForbidden(p.resource(), p.Name, errors.New("no permission")))
		return
	}
	if before != nil && !watching {
		if err := before(r.Method, p); err != nil {
			answer(w, nil, err)
			return
		}
	}
	if watching {
		if denied {
			answer(w, nil, apierrors.NewForbidden(p.resource(), "", errors.New("no permission")))
			return
		}
		s.watch(w, r, p)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		answer(w, nil, err)
		return
	}
	o, err := s.locked(r, p, decode(body))
	answer(w, o, err)
}

// named is the place that a right is asked for: a list or watch of one name is that
// object's.
func named(p Place, r *http.Request) Place {
	if p.Name == "" {
		p.Name, _ = strings.CutPrefix(r.URL.Query().Get("fieldSelector"), "metadata.name=")
	}
	return p
}

// verb is how the API server's authorization names a request.
func verb(method string, p Place, watching bool) string {
	switch {
	case watching:
		return "watch"
	case method == http.MethodGet && p.Name == "":
		return "list"
	}
	return map[string]string{
		http.MethodGet: "get", http.MethodPost: "create", http.MethodPut: "update", http.MethodPatch: "patch", http.MethodDelete: "delete",
	}[method]
}

func (s *Server) locked(r *http.Request, p Place, body Object) (Object, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if body == nil && r.Method != http.MethodGet && r.Method != http.MethodDelete {
		return nil, apierrors.NewBadRequest("the body is not JSON")
	}
	return s.do(r, p, body)
}

func (p Place) resource() schema.GroupResource {
	return schema.GroupResource{Group: p.Group, Resource: p.Resource}
}

// do answers a request; mu is held.
func (s *Server) do(r *http.Request, p Place, body Object) (Object, error) {
	old := s.objects[p.key()]
	switch r.Method {
	case http.MethodGet:
		if p.Name == "" {
			return s.list(p, r), nil
		}
		if old == nil {
			return nil, apierrors.NewNotFound(p.resource(), p.Name)
		}
		return clone(old), nil
	case http.MethodPost:
		if p.Resource == "tokenreviews" {
			return s.tokenReview(body), nil
		}
		if p.Name = text(metaOf(body)["name"]); p.Namespace != "" {
			metaOf(body)["namespace"] = p.Namespace
		}
		if s.objects[p.key()] != nil {
			return nil, apierrors.NewAlreadyExists(p.resource(), p.Name)
		}
		return s.store(p, body), nil
	case http.MethodDelete:
		if pre, ok := body["preconditions"].(map[string]any); ok && old != nil && pre["uid"] != metaOf(old)["uid"] {
			return nil, apierrors.NewConflict(p.resource(), p.Name, errors.New("the uid is another object's"))
		}
		if !s.remove(p) {
			return nil, apierrors.NewNotFound(p.resource(), p.Name)
		}
		return Object{"kind": "Status", "apiVersion": "v1", "status": "Success"}, nil
	case http.MethodPut, http.MethodPatch:
	default:
		return nil, apierrors.NewMethodNotSupported(p.resource(), r.Method)
	}
	if old == nil && (r.Method == http.MethodPut || p.Sub != "") {
		return nil, apierrors.NewNotFound(p.resource(), p.Name)
	}
	if v := text(metaOf(body)["resourceVersion"]); v != "" && old != nil && v != text(metaOf(old)["resourceVersion"]) {
		return nil, apierrors.NewConflict(p.resource(), p.Name, errors.New("the object has been modified"))
	}
	if uid := text(metaOf(body)["uid"]); uid != "" && old == nil {
		return nil, apierrors.NewConflict(p.resource(), p.Name, errors.New("no object has the uid"))
	} else if old != nil && uid != "" && uid != text(metaOf(old)["uid"]) {
		return nil, apierrors.NewInvalid(schema.GroupKind{Group: p.Group, Kind: text(body["kind"])}, p.Name, field.ErrorList{
			field.Invalid(field.NewPath("metadata", "uid"), uid, "field is immutable")})
	}
	if r.Method == http.MethodPut {
		next := body
		if p.Sub == "status" {
			next = clone(old)
			next["status"] = body["status"]
		}
		return s.store(p, next), nil
	}
	if !strings.Contains(r.Header.Get("Content-Type"), "apply-patch") {
		return nil, apierrors.NewBadRequest("only server-side apply is known here")
	}
	return s.apply(p, old, body, r.URL.Query().Get("fieldManager")), nil
}

func (s *Server) tokenReview(body Object) Object {
	spec, _ := body["spec"].(map[string]any)
	user := ""
	if s.review != nil {
		user = s.review(text(spec["token"]))
	}
	if user == "" {
		body["status"] = Object{"authenticated": false, "error": "unknown token"}
		return body
	}
	body["status"] = Object{"authenticated": true, "audiences": spec["audiences"], "user": Object{"username": user}}
	return body
}

// matches applies label and field selectors of equality.
func matches(o Object, r *http.Request) bool {
	if sel := r.URL.Query().Get("labelSelector"); sel != "" {
		labels, _ := metaOf(o)["labels"].(map[string]any)
		for one := range strings.SplitSeq(sel, ",") {
			k, v, _ := strings.Cut(one, "=")
			if text(labels[k]) != v {
				return false
			}
		}
	}
	for one := range strings.SplitSeq(r.URL.Query().Get("fieldSelector"), ",") {
		if name, ok := strings.CutPrefix(one, "metadata.name="); ok && text(metaOf(o)["name"]) != name {
			return false
		}
	}
	return true
}

func (p Place) covers(q Place) bool {
	return p.Group == q.Group && p.Resource == q.Resource && (p.Namespace == "" || p.Namespace == q.Namespace)
}

func (s *Server) selected(p Place, r *http.Request) (out []any) {
	for _, key := range slices.Sorted(maps.Keys(s.objects)) {
		f := strings.Split(key, "|")
		if o := s.objects[key]; p.covers(Place{Group: f[0], Resource: f[1], Namespace: f[2]}) && matches(o, r) {
			out = append(out, clone(o))
		}
	}
	return out
}

func (p Place) apiVersion() string {
	if p.Group == "" {
		return p.Version
	}
	return p.Group + "/" + p.Version
}

func (s *Server) list(p Place, r *http.Request) Object {
	items := s.selected(p, r)
	if items == nil {
		items = []any{}
	}
	return Object{"kind": kinds[p.Resource] + "List", "apiVersion": p.apiVersion(), "metadata": Object{"resourceVersion": strconv.FormatInt(s.version, 10)}, "items": items}
}

func answer(w http.ResponseWriter, o Object, err error) {
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		var st apierrors.APIStatus
		if !errors.As(err, &st) {
			st = apierrors.NewInternalError(err)
		}
		x := st.Status()
		x.Kind, x.APIVersion = "Status", "v1"
		w.WriteHeader(int(x.Code))
		_ = json.NewEncoder(w).Encode(x)
		return
	}
	_ = json.NewEncoder(w).Encode(o)
}
