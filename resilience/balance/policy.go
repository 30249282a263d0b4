package balance

// Policy says how a backend's endpoints are chosen. The zero value is least
// request, Istio's default.
type Policy struct {
	Kind Kind
}

// Kind is a balancing algorithm.
type Kind uint8

const (
	LeastRequest Kind = iota
	RoundRobin
	Random
	RingHash
	Maglev
	Passthrough
)
