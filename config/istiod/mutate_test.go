package istiod

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"

	"waypoint.dev/waypoint/config"
)

// mutator changes one place of a message, inside of Anys too.
type mutator struct {
	r      *rand.Rand
	places int   // counted so far
	guards []int // the places that may decide about security, found by the first walk
	whole  []int // those of them that are a filter as a whole
	inside bool  // a filter's configuration
	target int   // the place to change
	closed bool  // Envoy refuses what came out
}

// mutate changes one place of m.
func (u *mutator) mutate(m proto.Message) {
	u.places, u.target, u.guards, u.whole = 0, -1, nil, nil
	u.visit(m.ProtoReflect())
	u.target = u.r.IntN(u.places)
	// What guards is little among routes and tags, so it gets its turn more often.
	for _, some := range [][]int{u.guards, u.whole} {
		if len(some) > 0 && u.r.IntN(3) > 0 {
			u.target = some[u.r.IntN(len(some))]
		}
	}
	u.places = 0
	u.visit(m.ProtoReflect())
}

// visit walks over all messages and changes the one whose turn it is. It reports
// whether something below changed.
func (u *mutator) visit(m protoreflect.Message) (changed bool) {
	if a, ok := m.Interface().(*anypb.Any); ok && a.GetTypeUrl() != "" {
		was := u.inside
		defer func() { u.inside = was }()
		u.inside = was || strings.Contains(a.GetTypeUrl(), "filters.http.") || strings.Contains(a.GetTypeUrl(), "filters.network.rbac") || strings.Contains(a.GetTypeUrl(), "filters.network.ext_authz")
		if inner, err := a.UnmarshalNew(); err == nil && u.visit(inner.ProtoReflect()) {
			a.Value, _ = deterministic.Marshal(inner)
			return true
		}
	}
	if u.inside && u.target < 0 {
		u.guards = append(u.guards, u.places)
		if _, ok := m.Interface().(*anypb.Any); ok {
			u.whole = append(u.whole, u.places)
		}
	}
	u.places++
	if u.places-1 == u.target {
		u.change(m)
		return true
	}
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case fd.IsMap() && fd.MapValue().Message() != nil:
			// In a stable order, so that a seed always means the same.
			keys := map[string]protoreflect.MapKey{}
			v.Map().Range(func(k protoreflect.MapKey, _ protoreflect.Value) bool {
				keys[k.String()] = k
				return true
			})
			for _, k := range sorted(keys) {
				changed = changed || u.visit(v.Map().Get(keys[k]).Message())
			}
		case fd.IsMap() || fd.Message() == nil:
		case fd.IsList():
			for i := range v.List().Len() {
				changed = changed || u.visit(v.List().Get(i).Message())
			}
		default:
			changed = changed || u.visit(v.Message())
		}
		return !changed
	})
	return changed
}

// change does one thing to a message: a field is dropped, set, doubled, reordered,
// or of a newer version; an Any is of another type or cut off.
func (u *mutator) change(m protoreflect.Message) {
	if a, ok := m.Interface().(*anypb.Any); ok {
		switch u.r.IntN(3) {
		case 0:
			a.TypeUrl, u.closed = "type.googleapis.com/unheard.of.Filter", true
		case 1:
			a.TypeUrl = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
		default:
			a.Value = a.Value[:len(a.Value)/2]
		}
		return
	}
	fields := m.Descriptor().Fields()
	if fields.Len() == 0 || u.r.IntN(8) == 0 {
		m.SetUnknown(append(m.GetUnknown(), 0xfa, 0xa3, 0x09, 1, 'x')) // field 19007
		return
	}
	var set []protoreflect.FieldDescriptor
	m.Range(func(fd protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		set = append(set, fd)
		return true
	})
	fd := fields.Get(u.r.IntN(fields.Len()))
	if len(set) > 0 && u.r.IntN(4) > 0 {
		fd = set[u.r.IntN(len(set))]
	}
	switch {
	case m.Has(fd) && u.r.IntN(3) == 0:
		m.Clear(fd)
	case fd.IsMap():
		u.changeMap(fd, m.Mutable(fd).Map())
	case fd.IsList():
		u.changeList(fd, m.Mutable(fd).List())
	case fd.Message() != nil:
		m.Set(fd, m.NewField(fd))
	default:
		m.Set(fd, u.scalar(fd))
	}
}

func (u *mutator) changeMap(fd protoreflect.FieldDescriptor, v protoreflect.Map) {
	key := protoreflect.ValueOfString([]string{"", "x", "80", "0", "99999"}[u.r.IntN(5)]).MapKey()
	if fd.MapKey().Kind() != protoreflect.StringKind {
		return
	}
	if fd.MapValue().Message() != nil {
		v.Set(key, v.NewValue())
		return
	}
	v.Set(key, u.scalar(fd.MapValue()))
}

func (u *mutator) changeList(fd protoreflect.FieldDescriptor, v protoreflect.List) {
	n := v.Len()
	switch k := u.r.IntN(4); {
	case n > 0 && k == 0:
		v.Append(v.Get(u.r.IntN(n)))
	case n > 0 && k == 1:
		v.Truncate(n - 1)
	case n > 1 && k == 2:
		i, j := u.r.IntN(n), u.r.IntN(n)
		a, b := v.Get(i), v.Get(j)
		v.Set(i, b)
		v.Set(j, a)
	case fd.Message() != nil:
		v.Append(v.NewElement())
	default:
		v.Append(u.scalar(fd))
	}
}

// scalar is a value that code does not expect.
func (u *mutator) scalar(fd protoreflect.FieldDescriptor) protoreflect.Value {
	n := []int64{0, 1, -1, 99, math.MaxInt32, math.MinInt32, math.MaxInt64, math.MinInt64}[u.r.IntN(8)]
	switch fd.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(n&1 == 0)
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(n & 127))
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return protoreflect.ValueOfInt32(int32(n))
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		return protoreflect.ValueOfInt64(n)
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return protoreflect.ValueOfUint32(uint32(n))
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return protoreflect.ValueOfUint64(uint64(n))
	case protoreflect.FloatKind:
		return protoreflect.ValueOfFloat32([]float32{0, -1, float32(math.Inf(1)), float32(math.NaN())}[n&3])
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64([]float64{0, -1, math.Inf(1), math.NaN()}[n&3])
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte("\x00\xff"))
	}
	return protoreflect.ValueOfString([]string{"", "*", "/", "%", "%%%REQ(x)%", "(", ":", "a|b|c|d", "inbound-vip|80|http|", strings.Repeat("a{*}", 2000), "connect_terminate", "\x00", "é"}[u.r.IntN(13)])
}

// refused reports whether Envoy refuses m: a rule of its protos does not hold.
func refused(m protoreflect.Message) (bad bool) {
	if v, ok := m.Interface().(interface{ Validate() error }); ok && v.Validate() != nil {
		return true
	}
	if a, ok := m.Interface().(*anypb.Any); ok && a.GetTypeUrl() != "" {
		inner, err := a.UnmarshalNew()
		return err != nil || refused(inner.ProtoReflect())
	}
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case fd.IsMap():
			if fd.MapValue().Message() != nil {
				v.Map().Range(func(_ protoreflect.MapKey, e protoreflect.Value) bool {
					bad = bad || refused(e.Message())
					return !bad
				})
			}
		case fd.Message() == nil:
		case fd.IsList():
			for i := range v.List().Len() {
				bad = bad || refused(v.List().Get(i).Message())
			}
		default:
			bad = refused(v.Message())
		}
		return !bad
	})
	return bad
}

// asks are requests that policies of the fixtures tell apart.
func asks() (out []ask) {
	for _, peer := range []string{"", curl, "cluster.local/ns/shop/sa/web", "cluster.local/ns/evil/sa/x", "other.domain/ns/clients/sa/curl"} {
		for _, path := range []string{"/", "/admin", "/admin/x", "/pay", "/private/a/b", "/healthz", "/api/v1/users"} {
			for _, method := range []string{"GET", "POST", "DELETE"} {
				out = append(out, ask{peer: peer, path: path, method: method, host: "web.shop", port: 80})
			}
		}
	}
	return out
}

// guards says, for each question to each chain, whether it is refused, and how many
// stages ask a token or an authorizer.
func guards(s *config.Snapshot, qs []ask) map[string][]bool {
	out := map[string][]bool{}
	for _, c := range s.Chains() {
		row := make([]bool, 0, 2*len(qs)+4)
		asked := 0
		for i := range c.Stages {
			if k := c.Stages[i].Kind; k == config.StageJWT || k == config.StageCustom {
				asked++
			}
		}
		for n := range 4 {
			row = append(row, c.Broken != "" || asked > n)
		}
		for _, q := range qs {
			r := q.request()
			ok, _ := allowed(c, r)
			row = append(row, c.Broken != "" || !ok)
			conn := c.Conn == nil || c.Conn.CheckConn(r.Conn).Allowed
			row = append(row, c.Broken != "" || !conn)
		}
		out[c.Spec.Key] = row
	}
	return out
}

// looser names a chain that lets something pass which it refused before.
func looser(before, after map[string][]bool) string {
	for _, key := range sorted(after) {
		was, now := before[key], after[key]
		for i := range was {
			if was[i] && !now[i] {
				return fmt.Sprintf("%s, question %d", key, i)
			}
		}
	}
	return ""
}

// FuzzMutations changes what a real istiod sent in a few places: dropped and doubled
// fields, other types, numbers out of any range, references to itself. Nothing panics,
// and where Envoy refuses the result nothing passes that was refused.
func FuzzMutations(f *testing.F) {
	var all []map[string][]Resource
	dirs, err := filepath.Glob("testdata/[01]*-*")
	if err != nil || len(dirs) == 0 {
		f.Fatal(err)
	}
	qs := asks()
	var base []map[string][]bool
	for _, d := range dirs {
		all = append(all, resources(f, d))
		s, _ := config.Compile(load(f, d).Model(), nil, config.Env{Stage: anyStage})
		base = append(base, guards(s, qs))
	}
	for i := range dirs {
		for seed := range uint64(4) {
			f.Add(byte(i), seed, byte(0))
		}
	}
	f.Fuzz(func(t *testing.T, fixture byte, seed uint64, n byte) {
		var key [32]byte
		binary.LittleEndian.PutUint64(key[:], seed)
		u := &mutator{r: rand.New(rand.NewChaCha8(key))}
		res := all[int(fixture)%len(all)]
		w := NewWorld(testOptions())
		apply(t, w, res)
		w.Model()
		for i := range 1 + n%4 {
			typ := []string{ListenerType, ListenerType, ListenerType, ClusterType, EndpointsType}[u.r.IntN(5)]
			r := res[typ][u.r.IntN(len(res[typ]))]
			if typ == ListenerType && u.r.IntN(3) > 0 {
				for _, x := range res[typ] {
					if x.Name == mainInternal {
						r = x
					}
				}
			}
			m := map[string]proto.Message{ListenerType: &listenerv3.Listener{}, ClusterType: &clusterv3.Cluster{}, EndpointsType: &endpointv3.ClusterLoadAssignment{}}[typ]
			if err := proto.Unmarshal(r.Body, m); err != nil {
				t.Fatal(err)
			}
			u.mutate(m)
			b, err := deterministic.Marshal(m)
			if err != nil {
				continue // text that is no UTF-8 cannot be sent
			}
			closed := u.closed || refused(m.ProtoReflect())
			w.Apply(typ, []Resource{{r.Name, "2", b}}, nil)
			s, _ := config.Compile(w.Model(), nil, config.Env{Stage: anyStage})
			after := guards(s, qs)
			if closed && i == 0 {
				if at := looser(base[int(fixture)%len(all)], after); at != "" {
					t.Errorf("%s of fixture %d: Envoy refuses it, and here passes what did not: %s", r.Name, int(fixture)%len(all), at)
				}
			}
		}
	})
}
