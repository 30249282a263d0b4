package proxy

// enter and leave keep the list of busy connections; hp.mu is held. To leave it
// twice does nothing.
func (hp *hostPool) enter(c *h1Conn) {
	c.place = len(hp.busy)
	hp.busy = append(hp.busy, c)
}

func (hp *hostPool) leave(c *h1Conn) {
	if c.place < 0 {
		return
	}
	last := len(hp.busy) - 1
	moved := hp.busy[last]
	hp.busy[c.place], moved.place = moved, c.place
	hp.busy[last] = nil
	hp.busy = hp.busy[:last]
	c.place = -1
}
