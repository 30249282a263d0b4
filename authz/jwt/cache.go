package jwt

import (
	"crypto/sha256"
	"sync"

	"waypoint.dev/waypoint/internal/attrs"
)

// cacheSize bounds the verified tokens kept by one provider. An entry is its
// claims, a few hundred bytes to a few KiB; 4096 callers fit.
const cacheSize = 4096

// verified is a token that passed everything but the clock.
type verified struct {
	claims   *attrs.Claims
	set      []Header // outputs, ready to be sent
	exp, nbf int64
}

// cache remembers verified tokens by their SHA-256, for one version of the keys.
// It holds two generations: when the young one is full it becomes the old one,
// so what is in use stays without any bookkeeping on a hit.
type cache struct {
	mu         sync.RWMutex
	keys       *keySet // guarded by mu, as the rest
	young, old map[[sha256.Size]byte]*verified
}

// get returns the entry of a token verified with these keys.
func (c *cache) get(keys *keySet, sum *[sha256.Size]byte) *verified {
	c.mu.RLock()
	if c.keys != keys {
		c.mu.RUnlock()
		return nil
	}
	v, young := c.young[*sum]
	if !young {
		v = c.old[*sum]
	}
	c.mu.RUnlock()
	if v != nil && !young {
		c.put(keys, sum, v)
	}
	return v
}

// put stores v. Entries of other keys go: what they had vouched for is void.
func (c *cache) put(keys *keySet, sum *[sha256.Size]byte, v *verified) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.keys != keys || c.young == nil {
		c.keys, c.young, c.old = keys, map[[sha256.Size]byte]*verified{}, nil
	}
	if len(c.young) >= cacheSize/2 {
		c.young, c.old = map[[sha256.Size]byte]*verified{}, c.young
	}
	c.young[*sum] = v
}

// drop removes an expired token.
func (c *cache) drop(sum *[sha256.Size]byte) {
	c.mu.Lock()
	delete(c.young, *sum)
	delete(c.old, *sum)
	c.mu.Unlock()
}

// len is the number of entries, for tests.
func (c *cache) len() int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return len(c.young) + len(c.old)
}
