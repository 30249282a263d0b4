package h2

import (
	"time"

	"golang.org/x/net/http2"
)

func (c *Conn) onSettings(f *http2.SettingsFrame) error {
	if f.IsAck() {
		c.mu.Lock()
		if !c.settingsAt.IsZero() && !c.settingsAcked {
			c.settingsAcked = true
			c.noteRTT(time.Since(c.settingsAt))
		}
		c.mu.Unlock()
		return nil
	}
	if c.sawSettings {
		if err := c.glitch("SETTINGS"); err != nil {
			return err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.sawSettings {
		c.sawSettings = true
		if c.preface != nil {
			c.preface.Stop()
		}
	}
	for i := range f.NumSettings() {
		if err := c.applySetting(f.Setting(i)); err != nil {
			return err
		}
	}
	c.appendControl(http2.FrameSettings, http2.FlagSettingsAck, 0)
	return nil
}

// applySetting takes one of the peer's settings (RFC 9113 section 6.5.2). c.mu
// is held.
func (c *Conn) applySetting(s http2.Setting) error {
	v := s.Val
	switch s.ID {
	case http2.SettingEnablePush:
		if v > 1 || v == 1 && !c.server {
			return connErr(http2.ErrCodeProtocol, "bad ENABLE_PUSH")
		}
	case http2.SettingMaxConcurrentStreams:
		c.peerStreams = v
	case http2.SettingInitialWindowSize:
		if v > maxWindow {
			return connErr(http2.ErrCodeFlowControl, "bad INITIAL_WINDOW_SIZE")
		}
		d := int64(v) - c.peerWindow
		c.peerWindow = int64(v)
		for _, st := range c.streams {
			st.sendWin += d // may become negative: RFC 9113 section 6.9.2
			if st.sendWin > maxWindow {
				return connErr(http2.ErrCodeFlowControl, "INITIAL_WINDOW_SIZE overflows a window")
			}
			if d > 0 {
				st.wcond.Signal()
			}
		}
	case http2.SettingMaxFrameSize:
		if v < minMaxFrame || v > maxMaxFrame {
			return connErr(http2.ErrCodeProtocol, "bad MAX_FRAME_SIZE")
		}
		c.peerMaxFrame = int(v)
	case http2.SettingEnableConnectProtocol:
		if v > 1 || v == 0 && c.peerConnectOK {
			return connErr(http2.ErrCodeProtocol, "bad ENABLE_CONNECT_PROTOCOL")
		}
		c.peerConnectOK = v == 1
	}
	// HEADER_TABLE_SIZE does not matter to us, we use no table. MAX_HEADER_LIST_SIZE
	// is advice, and the peer will answer for itself.
	return nil
}

func (c *Conn) onPing(f *http2.PingFrame) error {
	if f.IsAck() {
		c.onPong(f.Data)
		return nil
	}
	// A peer that measures bandwidth sends a PING a round trip while data flows;
	// one without data is worth counting.
	if !c.dataSeen {
		if err := c.glitch("PING"); err != nil {
			return err
		}
	}
	c.dataSeen = false
	c.mu.Lock()
	c.appendPing(true, f.Data)
	c.mu.Unlock()
	return nil
}

func (c *Conn) onWindowUpdate(fh http2.FrameHeader) error {
	if fh.Length != 4 {
		return connErr(http2.ErrCodeFrameSize, "WINDOW_UPDATE of a wrong size")
	}
	v, err := c.rd.uint32()
	if err != nil {
		return err
	}
	inc := int64(v & maxWindow)
	id := fh.StreamID
	c.mu.Lock()
	c.updates--
	if c.updates < 0 {
		c.mu.Unlock()
		return connErr(http2.ErrCodeEnhanceYourCalm, "too many WINDOW_UPDATE frames")
	}
	if id == 0 {
		defer c.mu.Unlock()
		if inc == 0 {
			return connErr(http2.ErrCodeProtocol, "WINDOW_UPDATE of 0")
		}
		if c.sendWin += inc; c.sendWin > maxWindow {
			return connErr(http2.ErrCodeFlowControl, "connection window overflows")
		}
		c.wakeWaiter()
		return nil
	}
	s := c.streams[id]
	if s == nil {
		idle := c.idle(id)
		c.mu.Unlock()
		if idle {
			return connErr(http2.ErrCodeProtocol, "WINDOW_UPDATE on an idle stream")
		}
		return nil
	}
	s.sendWin += inc
	over := s.sendWin > maxWindow
	s.wcond.Signal()
	c.mu.Unlock()
	switch {
	case inc == 0:
		return c.streamErr(id, http2.ErrCodeProtocol, "WINDOW_UPDATE of 0")
	case over:
		return c.streamErr(id, http2.ErrCodeFlowControl, "stream window overflows")
	}
	return nil
}

// idle says whether stream id was never opened. c.mu is held.
func (c *Conn) idle(id uint32) bool {
	if id&1 == 0 {
		return true // no side pushes
	}
	if c.server {
		return id > c.maxPeerID && !c.finalGoing
	}
	return id >= c.nextID
}

func (c *Conn) onReset(fh http2.FrameHeader) error {
	if fh.Length != 4 {
		return connErr(http2.ErrCodeFrameSize, "RST_STREAM of a wrong size")
	}
	v, err := c.rd.uint32()
	if err != nil {
		return err
	}
	code := http2.ErrCode(v)
	c.mu.Lock()
	s := c.streams[fh.StreamID]
	if s == nil {
		idle := fh.StreamID == 0 || c.idle(fh.StreamID)
		c.mu.Unlock()
		if idle {
			return connErr(http2.ErrCodeProtocol, "RST_STREAM on an idle stream")
		}
		return nil
	}
	// Envoy's notion of a premature reset: work was asked for and no answer
	// awaited.
	premature := c.server && !s.headSent
	c.forget(s, false)
	s.fail(&StreamError{Code: code, Remote: true, Unprocessed: code == http2.ErrCodeRefusedStream})
	c.mu.Unlock()
	if premature {
		return c.glitch("premature resets")
	}
	return nil
}

func (c *Conn) onPriority(f *http2.PriorityFrame) error {
	c.priorities++
	c.mu.Lock()
	opened := c.opened
	c.mu.Unlock()
	if c.priorities > priorityPerStream*(1+opened) {
		return connErr(http2.ErrCodeEnhanceYourCalm, "too many PRIORITY frames")
	}
	if f.StreamDep == f.StreamID {
		// RFC 7540 section 5.3.1. A stream that is not open has nothing to reset,
		// but the peer is told all the same.
		return c.streamErr(f.StreamID, http2.ErrCodeProtocol, "stream depends on itself")
	}
	return nil
}

func (c *Conn) onGoAway(f *http2.GoAwayFrame) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	last := f.LastStreamID
	c.noteDraining()
	if c.server {
		// Streams the client opened go on; it opens no more.
		c.finalGoing = true
	} else {
		for id, s := range c.streams {
			if id > last {
				c.forget(s, false)
				s.fail(&StreamError{Code: http2.ErrCodeRefusedStream, Remote: true, Unprocessed: true, Reason: "GOAWAY"})
			}
		}
	}
	if f.ErrCode != http2.ErrCodeNo && c.err == nil {
		c.err = &ConnError{Code: f.ErrCode, Remote: true, Reason: string(f.DebugData())}
	}
	c.maybeFinish()
	return nil
}
