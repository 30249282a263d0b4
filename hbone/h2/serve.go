package h2

import (
	"errors"
	"io"
	"time"

	"golang.org/x/net/http2"
)

// Serve reads the connection until it ends, and closes it. It returns nil after
// a graceful end, also if the peer just closed while no stream was open.
func (c *Conn) Serve() error {
	c.mu.Lock()
	if c.state == stateOpen {
		if c.settingsAt.IsZero() {
			c.settingsAt = time.Now()
		}
		c.preface = time.AfterFunc(prefaceTimeout, c.prefaceLate)
		if c.cfg.KeepaliveInterval > 0 {
			c.keepalive = time.AfterFunc(c.cfg.KeepaliveInterval, c.checkKeepalive)
		}
		c.kick()
	}
	c.mu.Unlock()

	err := c.readPreface()
	for err == nil {
		err = c.readFrame()
	}
	c.end(err)
	c.rd.drop()
	<-c.done
	return c.Err()
}

// errEnding stops the reader when the connection ends gracefully.
var errEnding = errors.New("h2: ending")

// end closes the connection as the reader's error says.
func (c *Conn) end(err error) {
	var ce *ConnError
	c.mu.Lock()
	switch {
	case c.state == stateClosed:
		c.mu.Unlock()
		return
	case c.state == stateEnding:
		c.mu.Unlock()
		<-c.finished
		c.linger()
	case errors.As(err, &ce):
		c.failStreams(ce)
		c.err = ce
		last := c.maxPeerID
		c.noteDraining()
		c.appendGoAway(last, ce.Code, ce.Reason)
		c.state = stateEnding
		c.mu.Unlock()
		c.finish()
		c.linger()
	default:
		if errors.Is(err, io.EOF) && len(c.streams) == 0 {
			c.state = stateEnding // the peer went, and left nothing behind
			err = nil
		} else if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		c.closeLocked(err)
		c.mu.Unlock()
		return
	}
	c.mu.Lock()
	c.closeLocked(nil)
	c.mu.Unlock()
}

// finish flushes what is left and tells the peer that no more comes. The state
// is stateEnding.
func (c *Conn) finish() {
	defer close(c.finished)
	c.nc.SetWriteDeadline(time.Now().Add(lingerTimeout))
	c.mu.Lock()
	for (c.flushing || len(c.wbuf) > 0) && c.state != stateClosed {
		if c.flushing {
			c.flushed.Wait()
		} else {
			c.flush()
		}
	}
	closed := c.state == stateClosed
	c.mu.Unlock()
	if closed {
		return
	}
	if cw, ok := c.nc.(interface{ CloseWrite() error }); ok {
		cw.CloseWrite()
	}
	c.nc.SetReadDeadline(time.Now().Add(lingerTimeout))
}

// linger reads on until the peer closes too, for a second at most. Closing with
// unread input would make the kernel send RST, and the peer could lose the last
// of what we sent.
func (c *Conn) linger() {
	var p [512]byte
	for {
		if _, err := c.nc.Read(p[:]); err != nil {
			return
		}
	}
}

// maybeFinish ends the connection when it is going away and its last stream is
// gone. c.mu is held.
func (c *Conn) maybeFinish() {
	if len(c.streams) > 0 || c.state != stateOpen || !c.goneAway || c.server && !c.finalGoing {
		return
	}
	c.state = stateEnding
	c.ending.Store(true)
	go c.finish()
}

// beforeRead runs when the reader is about to wait for the network.
func (c *Conn) beforeRead() {
	c.lastRead.Store(c.now())
	c.mu.Lock()
	if len(c.wbuf) > 0 {
		c.kick()
	}
	c.mu.Unlock()
}

func (c *Conn) prefaceLate() {
	c.Close(&ConnError{Code: http2.ErrCodeSettingsTimeout, Reason: "no preface in time"})
}

func (c *Conn) readPreface() error {
	if !c.server {
		return nil
	}
	var p [len(http2.ClientPreface)]byte
	for i := range p {
		if err := c.rd.full(p[i : i+1]); err != nil {
			return err
		}
		if p[i] != http2.ClientPreface[i] {
			return &ConnError{Code: http2.ErrCodeProtocol, Reason: "bad preface"}
		}
	}
	return nil
}

// connErr makes a connection error.
func connErr(code http2.ErrCode, reason string) error {
	return &ConnError{Code: code, Reason: reason}
}

// readFrame reads and handles one frame.
func (c *Conn) readFrame() error {
	fh, err := c.fr.ReadFrameHeader()
	if err != nil {
		return c.frameError(err)
	}
	if !c.sawSettings {
		if fh.Type != http2.FrameSettings || fh.Flags.Has(http2.FlagSettingsAck) {
			return connErr(http2.ErrCodeProtocol, "first frame is not SETTINGS")
		}
	}
	switch fh.Type {
	case http2.FrameData:
		err = c.onData(fh)
	case http2.FrameHeaders:
		err = c.onHeaders(fh)
	case http2.FrameContinuation:
		err = c.onContinuation(fh)
	case http2.FrameWindowUpdate:
		err = c.onWindowUpdate(fh)
	case http2.FrameRSTStream:
		err = c.onReset(fh)
	case http2.FrameSettings, http2.FramePing, http2.FrameGoAway, http2.FramePriority:
		var f http2.Frame
		if f, err = c.fr.ReadFrameForHeader(fh); err != nil {
			return c.frameError(err)
		}
		switch f := f.(type) {
		case *http2.SettingsFrame:
			err = c.onSettings(f)
		case *http2.PingFrame:
			err = c.onPing(f)
		case *http2.GoAwayFrame:
			err = c.onGoAway(f)
		case *http2.PriorityFrame:
			err = c.onPriority(f)
		}
	case http2.FramePushPromise:
		// We never enable push (RFC 9113 section 8.4).
		return connErr(http2.ErrCodeProtocol, "PUSH_PROMISE")
	default:
		// RFC 9113 section 4.1: unknown types are ignored. They are no reason to
		// exist in number either.
		if err = c.glitch("unknown frames"); err == nil {
			err = c.rd.skip(int(fh.Length))
		}
	}
	if err == nil && c.ending.Load() {
		return errEnding
	}
	return err
}

// frameError turns an error of the framer into ours.
func (c *Conn) frameError(err error) error {
	var ce http2.ConnectionError
	switch {
	case errors.As(err, &ce):
		reason := "bad frame"
		if d := c.fr.ErrorDetail(); d != nil {
			reason = d.Error()
		}
		return connErr(http2.ErrCode(ce), reason)
	case errors.Is(err, http2.ErrFrameTooLarge):
		return connErr(http2.ErrCodeFrameSize, "frame too large")
	}
	return err
}

// glitch counts a suspicious frame.
func (c *Conn) glitch(what string) error {
	if !c.glitches.take(time.Now()) {
		return connErr(http2.ErrCodeEnhanceYourCalm, "too many "+what)
	}
	return nil
}

// streamErr resets a stream for an error of the peer's. It counts as a glitch: a
// peer that makes us reset streams is as costly as one that resets them.
func (c *Conn) streamErr(id uint32, code http2.ErrCode, reason string) error {
	c.mu.Lock()
	if s := c.streams[id]; s != nil {
		s.resetLocked(&StreamError{Code: code, Reason: reason})
	} else {
		c.localResets.add(id)
		c.appendReset(id, code)
	}
	c.mu.Unlock()
	return c.glitch("stream errors")
}
