package load

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// exchanger sends one raw request again and again and reads its answers. It
// knows no more HTTP/1.1 than that takes: answers need a content-length.
type exchanger struct {
	rw  io.ReadWriter
	buf []byte
	n   int // bytes in buf
}

var (
	errNoLength = errors.New("load: the answer has no content-length")
	headEnd     = []byte("\r\n\r\n")
	lengthName  = []byte("\r\ncontent-length: ")
)

// do sends request and returns the status and the body's length.
func (e *exchanger) do(request []byte) (status int, body int64, err error) {
	if _, err := e.rw.Write(request); err != nil {
		return 0, 0, err
	}
	for {
		if i := bytes.Index(e.buf[:e.n], headEnd); i >= 0 {
			return e.finish(i + len(headEnd))
		}
		if e.n == len(e.buf) {
			return 0, 0, fmt.Errorf("load: a head of more than %d bytes", e.n)
		}
		n, err := e.rw.Read(e.buf[e.n:])
		e.n += n
		if err != nil && n == 0 {
			return 0, 0, err
		}
	}
}

func (e *exchanger) finish(head int) (status int, body int64, err error) {
	if head < len("HTTP/1.1 200\r\n") {
		return 0, 0, fmt.Errorf("load: %q is no answer", e.buf[:head])
	}
	if status, err = strconv.Atoi(string(e.buf[9:12])); err != nil {
		return 0, 0, fmt.Errorf("load: %q is no status line", e.buf[:12])
	}
	i := bytes.Index(e.buf[:head], lengthName)
	if i < 0 {
		return status, 0, errNoLength
	}
	for _, c := range e.buf[i+len(lengthName) : head] {
		if c < '0' || c > '9' {
			break
		}
		body = body*10 + int64(c-'0')
	}
	have := int64(e.n - head)
	if have > body {
		return status, body, fmt.Errorf("load: %d bytes behind the answer", have-body)
	}
	e.n = 0
	for have < body {
		n, err := e.rw.Read(e.buf[:min(int64(len(e.buf)), body-have)])
		have += int64(n)
		if err != nil && n == 0 {
			return status, have, err
		}
	}
	return status, body, nil
}
