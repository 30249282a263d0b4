package proxy

import "sync"

// task is work that a worker does once.
type task interface{ run() }

// maxIdleWorkers bounds the goroutines kept for later. Each costs its stack, a
// few KiB; a burst beyond it starts goroutines that end behind their task.
const maxIdleWorkers = 64

// workers runs tasks on goroutines that are kept, last used first: their stacks
// have already grown to what a body copy needs.
type workers struct {
	mu     sync.Mutex
	idle   []chan task // guarded by mu
	closed bool        // guarded by mu
	wg     sync.WaitGroup
}

// do runs t on another goroutine. It never blocks.
func (w *workers) do(t task) {
	w.mu.Lock()
	if n := len(w.idle); n > 0 {
		ch := w.idle[n-1]
		w.idle = w.idle[:n-1]
		w.mu.Unlock()
		ch <- t // capacity one and the worker is idle: never blocks
		return
	}
	w.wg.Add(1)
	w.mu.Unlock()
	go w.work(t)
}

func (w *workers) work(t task) {
	defer w.wg.Done()
	var ch chan task
	for t != nil {
		t.run()
		t = nil
		w.mu.Lock()
		if w.closed || len(w.idle) >= maxIdleWorkers {
			w.mu.Unlock()
			return
		}
		if ch == nil {
			ch = make(chan task, 1)
		}
		w.idle = append(w.idle, ch)
		w.mu.Unlock()
		t = <-ch
	}
}

// close ends the idle workers and waits for the busy ones.
func (w *workers) close() {
	w.mu.Lock()
	w.closed = true
	for _, ch := range w.idle {
		close(ch)
	}
	w.idle = nil
	w.mu.Unlock()
	w.wg.Wait()
}
