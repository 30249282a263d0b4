package istiod

import (
	"errors"
	"fmt"

	"github.com/cespare/xxhash/v2"
	xdsmatcherv3 "github.com/cncf/xds/go/xds/type/matcher/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// Field numbers of Listener and FilterChain.
const (
	listenerName    = 1
	listenerChains  = 3
	listenerFilters = 9
	listenerDefault = 25
	listenerMatcher = 32
	chainName       = 7
)

// digest tells the bytes of one message apart from those of another. Two hashes
// of 64 bits and a length: a collision that matters would have to be made, and
// istiod may program a waypoint as it likes anyway.
type digest struct {
	a, b uint64
	n    int
}

func digestOf(b []byte) digest {
	h := xxhash.NewWithSeed(0x77617970)
	_, _ = h.Write(b)
	return digest{xxhash.Sum64(b), h.Sum64(), len(b)}
}

// scanned is a Listener cut into the parts that are compared one by one. All
// slices borrow the message.
type scanned struct {
	name     string
	chains   []scannedChain
	matcher  []byte
	filters  []*listenerv3.ListenerFilter
	fallback bool // default_filter_chain is set
}

type scannedChain struct {
	name string
	body []byte
}

// scan cuts a serialized Listener. Decoding it as a whole would copy tens of
// megabytes of filter chains that did not change.
func scan(b []byte) (s scanned, err error) {
	ok := fields(b, func(num protowire.Number, v []byte, _ uint64) {
		switch num {
		case listenerName:
			s.name = string(v)
		case listenerChains:
			c := scannedChain{body: v}
			if !fields(v, func(num protowire.Number, v []byte, _ uint64) {
				if num == chainName {
					c.name = string(v)
				}
			}) {
				err = errors.New("a filter chain is no message")
			}
			s.chains = append(s.chains, c)
		case listenerMatcher:
			s.matcher = v
		case listenerFilters:
			var f listenerv3.ListenerFilter
			if e := proto.Unmarshal(v, &f); e != nil && err == nil {
				err = fmt.Errorf("listener filter: %w", e)
			}
			s.filters = append(s.filters, &f)
		case listenerDefault:
			s.fallback = true
		}
	})
	switch {
	case !ok:
		return s, errors.New("is no protobuf message")
	case err != nil:
		return s, err
	case s.name == "":
		return s, errors.New("has no name")
	}
	return s, nil
}

func decodeMatcher(b []byte) (*xdsmatcherv3.Matcher, error) {
	var m xdsmatcherv3.Matcher
	if err := proto.Unmarshal(b, &m); err != nil {
		return nil, fmt.Errorf("filter_chain_matcher: %w", err)
	}
	return &m, nil
}
