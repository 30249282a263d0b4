package resilience

// Resource is something the whole process has a bounded amount of.
type Resource uint8

// The bounded resources.
const (
	Connections Resource = iota // inbound HBONE connections
	Streams                     // open tunnels
	Requests                    // requests under way
	Pending                     // those of them that wait for an upstream connection
	Bytes                       // buffered bytes
	resources
)

// String is the shed reason in logs and metrics.
func (r Resource) String() string {
	switch r {
	case Connections:
		return "overload_connections"
	case Streams:
		return "overload_streams"
	case Requests:
		return "overload_requests"
	case Pending:
		return "overload_pending"
	case Bytes:
		return "overload_bytes"
	}
	return "overload"
}

// Shed is the refusal of an overloaded process: a counted 503, flag UO, with the
// reason as its details. It is an [ErrOverflow].
type Shed struct{ Resource Resource }

func (s *Shed) Error() string        { return "overflow: " + s.Resource.String() }
func (s *Shed) Is(target error) bool { return target == ErrOverflow }

// sheds are the only values of Shed, so that shedding does not allocate.
var sheds = [resources]Shed{{Connections}, {Streams}, {Requests}, {Pending}, {Bytes}}

// Overload admits work while the process has room, and sheds the rest early:
// work refused at the door costs little, work given up in the middle costs all.
// The zero value admits everything.
type Overload struct{ gates [resources]gate }

// SetLimit bounds a resource; 0 is unlimited. It may be called at any time.
func (o *Overload) SetLimit(r Resource, n int64) { o.gates[r].max.Store(max(0, n)) }

// Acquire takes n of a resource, or returns a *Shed. n is 1 but for Bytes.
func (o *Overload) Acquire(r Resource, n int64) error {
	if !o.gates[r].takeN(n) {
		return &sheds[r]
	}
	return nil
}

// Try is Acquire that counts nothing as shed: the caller asks again.
func (o *Overload) Try(r Resource, n int64) bool { return o.gates[r].tryN(n) }

// Release gives n back.
func (o *Overload) Release(r Resource, n int64) { o.gates[r].used.Add(-n) }

// Used is what is taken of a resource now, Shed how many were refused so far.
func (o *Overload) Used(r Resource) int64  { return o.gates[r].used.Load() }
func (o *Overload) Shed(r Resource) uint64 { return o.gates[r].refused.Load() }
