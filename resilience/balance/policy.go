package balance

import "time"

// Policy says how a backend's endpoints are chosen. The zero value is least
// request, Istio's default, without panic mode (Istio sets the threshold to 0).
type Policy struct {
	Kind Kind

	// Warmup raises the share of a new endpoint slowly; LeastRequest and
	// RoundRobin only, as in Envoy. The zero value is off.
	Warmup Warmup

	// LocalityWeighted spreads the requests of a priority over its localities by
	// Locality.Weight (Envoy's locality_weighted_lb_config); else endpoints of one
	// priority are one flat list.
	LocalityWeighted bool

	// Overprovisioning is in percent: a priority or locality carries its whole
	// load until fewer than 100/Overprovisioning of it is healthy. 0: 140 (Envoy).
	Overprovisioning uint32

	// PanicThreshold is a percentage: with less than that healthy in a priority,
	// and the others unable to help, health is ignored there. 0: never.
	PanicThreshold uint32

	RingMin, RingMax uint64  // ring hash: 0: 1024 and 8 Mi (Envoy)
	TableSize        uint64  // Maglev: a prime up to 5,000,011; 0: 65,537 (Envoy)
	ActiveBias       float64 // least request with unequal weights: 0: 1.0 (Envoy's active_request_bias)

	// Port replaces the port that the client asked for, with Passthrough; 0: none.
	Port uint16

	// Hash lists the sources of the hash key, see HashKey. A route's own list
	// takes its place.
	Hash []HashSource

	// Rand replaces the process's random source, so that tests can seed it; nil:
	// math/rand/v2. It must be safe for concurrent use.
	Rand func() uint64
}

// Kind is a balancing algorithm.
type Kind uint8

// The algorithms of Istio's DestinationRule.
const (
	LeastRequest Kind = iota
	RoundRobin
	Random
	RingHash
	Maglev
	Passthrough
)

// Warmup is Envoy's slow start. An endpoint younger than Duration has its weight
// multiplied by max(MinPercent/100, (age/Duration)^(1/Aggression)).
type Warmup struct {
	Duration   time.Duration // 0: off
	MinPercent float64       // 0: 10 (Istio and Envoy)
	Aggression float64       // 0: 1.0, linear
}

// Defaults of Envoy, named where they are read.
const (
	defaultOverprovisioning = 140
	defaultRingMin          = 1024
	defaultRingMax          = 8 << 20
	defaultTableSize        = 65537
	maxTableSize            = 5000011
	defaultWarmupMin        = 10
)

// withDefaults replaces zero values by what they stand for.
func (p Policy) withDefaults() Policy {
	if p.Overprovisioning == 0 {
		p.Overprovisioning = defaultOverprovisioning
	}
	if p.RingMin == 0 {
		p.RingMin = defaultRingMin
	}
	if p.RingMax == 0 {
		p.RingMax = defaultRingMax
	}
	p.RingMin = min(p.RingMin, p.RingMax, defaultRingMax)
	p.RingMax = min(p.RingMax, defaultRingMax)
	if p.TableSize == 0 {
		p.TableSize = defaultTableSize
	}
	p.TableSize = min(p.TableSize, maxTableSize)
	if p.ActiveBias == 0 {
		p.ActiveBias = 1
	}
	if p.Warmup.MinPercent == 0 {
		p.Warmup.MinPercent = defaultWarmupMin
	}
	if p.Warmup.Aggression <= 0 {
		p.Warmup.Aggression = 1
	}
	if p.Kind != LeastRequest && p.Kind != RoundRobin {
		p.Warmup.Duration = 0
	}
	p.PanicThreshold = min(p.PanicThreshold, 100)
	return p
}

// sameTables reports whether two policies with defaults build equal hash tables.
func (p *Policy) sameTables(q *Policy) bool {
	return p.Kind == q.Kind && p.RingMin == q.RingMin && p.RingMax == q.RingMax &&
		p.TableSize == q.TableSize && p.LocalityWeighted == q.LocalityWeighted
}

// Hashing reports whether the kind places requests by their hash.
func (k Kind) Hashing() bool { return k == RingHash || k == Maglev }
