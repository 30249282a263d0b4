package hbone

// OnReset has f called when the peer resets the tunnel or its connection ends,
// see h2.Stream.OnReset. f must neither block nor use the tunnel; nil stops it.
func (t *Tunnel) OnReset(f func()) { t.st.OnReset(f) }

// OnEnd has f called when the peer half-closes the tunnel, see h2.Stream.OnEnd; for f
// holds what OnReset says.
func (t *Tunnel) OnEnd(f func()) { t.st.OnEnd(f) }
