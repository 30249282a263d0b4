package hbone

// OnReset has f called when the peer resets the tunnel or its connection ends,
// see h2.Stream.OnReset. f must neither block nor use the tunnel; nil stops it.
func (t *Tunnel) OnReset(f func()) { t.st.OnReset(f) }
