package h2

// WaitReadable blocks until Read would return at once: DATA is there, the peer's
// message ended (io.EOF), or the stream or its read deadline failed. A waiting
// stream needs no buffer of its reader's.
func (s *Stream) WaitReadable() error {
	// No defer: it makes the frame larger that stands below each idle tunnel.
	s.mu.Lock()
	err := s.waitData()
	s.mu.Unlock()
	return err
}

// Readable reports whether WaitReadable would return at once, whatever the read
// deadline says.
func (s *Stream) Readable() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.released || s.eof || s.rerr != nil || s.first != nil && s.first.r < s.first.w
}
