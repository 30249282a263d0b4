package proxy

import (
	"sync"
	"time"
)

// waitList is the requests of one backend that wait for a connection, first come
// first served. The zero value is empty.
type waitList struct {
	mu   sync.Mutex
	list []chan struct{} // guarded by mu
}

// join enters the list. The channel is closed when it is the caller's turn.
func (w *waitList) join() chan struct{} {
	ch := make(chan struct{})
	w.mu.Lock()
	w.list = append(w.list, ch)
	w.mu.Unlock()
	return ch
}

// wake tells the first in the list that a connection may be free.
func (w *waitList) wake() {
	w.mu.Lock()
	if len(w.list) > 0 {
		close(w.list[0])
		w.list = append(w.list[:0], w.list[1:]...)
	}
	w.mu.Unlock()
}

// leave takes ch out; a turn that it already had goes to the next.
func (w *waitList) leave(ch chan struct{}) {
	w.mu.Lock()
	for i, c := range w.list {
		if c == ch {
			w.list = append(w.list[:i], w.list[i+1:]...)
			w.mu.Unlock()
			return
		}
	}
	w.mu.Unlock()
	w.wake()
}

// await waits for ch until the deadline; the zero deadline is none.
func await(ch <-chan struct{}, done <-chan struct{}, deadline time.Time) bool {
	if deadline.IsZero() {
		select {
		case <-ch:
			return true
		case <-done:
			return false
		}
	}
	t := time.NewTimer(time.Until(deadline))
	defer t.Stop()
	select {
	case <-ch:
		return true
	case <-t.C:
		return false
	case <-done:
		return false
	}
}
