package churn

import (
	"sync"
	"testing"
)

// crowd knows who is under way, so that somebody can wait for all who were before
// them and not for those who come later. The zero value is ready for use.
type crowd struct {
	mu  sync.Mutex
	now *epoch // guarded by mu: of those who come; nil: nobody has yet
}

// epoch is whoever came between two waits.
type epoch struct {
	open   sync.WaitGroup
	before *epoch // nil: they have left. Guarded by the crowd's mu
}

// enter joins the crowd until the returned function is called.
func (c *crowd) enter() (leave func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.now == nil {
		c.now = new(epoch)
	}
	c.now.open.Add(1)
	return c.now.open.Done
}

// pass waits for all who entered before the call.
func (c *crowd) pass() {
	c.mu.Lock()
	e := &epoch{before: c.now}
	c.now = e
	var old []*epoch
	for b := e.before; b != nil; b = b.before {
		old = append(old, b)
	}
	c.mu.Unlock()
	for _, b := range old {
		b.open.Wait()
	}
	c.mu.Lock()
	e.before = nil
	c.mu.Unlock()
}

func TestCrowd(t *testing.T) {
	var c crowd
	c.pass()
	first := c.enter()
	passed := [2]chan struct{}{make(chan struct{}), make(chan struct{})}
	go func() { c.pass(); close(passed[0]) }()
	for turned := false; !turned; { // until it has begun
		c.mu.Lock()
		turned = c.now.before != nil
		c.mu.Unlock()
	}
	second := c.enter()
	go func() { c.pass(); close(passed[1]) }()
	first()
	<-passed[0] // without the second
	select {
	case <-passed[1]:
		t.Error("passed somebody who was there before")
	default:
	}
	second()
	<-passed[1]
	c.pass()
}
