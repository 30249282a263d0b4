package h2

import (
	"time"

	"waypoint.dev/waypoint/internal/attrs"
)

// Config is fixed for the life of a connection. The zero value of each field
// means the default named beside it.
type Config struct {
	MaxConcurrentStreams uint32 // advertised; streams a peer may open (100)
	PeerStreams          uint32 // what the peer allows is taken for this until its SETTINGS say (100)
	MaxFrameSize         uint32 // largest frame we accept (16 KiB)
	MaxHeaderListSize    uint32 // bytes of a decoded head (64 KiB)

	StreamWindow    uint32 // initial receive window of a stream (64 KiB; at least 16)
	MaxStreamWindow uint32 // it grows up to this (4 MiB)
	ConnWindow      uint32 // initial receive window of the connection (1 MiB)
	MaxConnWindow   uint32 // it grows up to this (16 MiB)

	KeepaliveInterval time.Duration // PING after this long idle (10 s); negative: off
	KeepaliveTimeout  time.Duration // close when unanswered (20 s)
	MaxAge            time.Duration // graceful GOAWAY after this, jittered 10 %; 0: never

	// Connect says that the connection carries CONNECT tunnels only: heads are
	// validated as plain CONNECT, END_STREAM is a half close. A server answers what
	// is none with 400.
	Connect bool
	// Refused, if not nil, is told of each head of a request that was answered without
	// the handler, and why. It is called with the connection's lock held: it must be
	// quick and not call back.
	Refused func(status int, why string)
}

// Handler serves streams that the peer opened. ServeStream runs on a goroutine
// of the stream's own; the stream is reset if it returns with the stream open.
type Handler interface {
	ServeStream(*Stream)
}

// Head is a received head: of a request, a response, or trailers (fields only).
// Its strings are borrowed until the stream is released.
type Head struct {
	Method, Scheme, Authority, Path, Protocol string
	Status                                    int
	Fields                                    []attrs.Field
	End                                       bool // END_STREAM came with it
}

// Flags of a write.
type Flags uint8

const (
	End  Flags = 1 << iota // half-close our side behind this frame
	More                   // another write follows at once: do not flush yet
)
