package measure

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// PID is a process that is asked what it used so far.
type PID int

func (p PID) read(file string) []byte {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/%s", int(p), file))
	return b
}

// CPU is user plus system time so far, to 10 ms.
func (p PID) CPU() time.Duration {
	b := p.read("stat")
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(f) < 13 {
		return 0
	}
	user, _ := strconv.ParseInt(f[11], 10, 64)
	sys, _ := strconv.ParseInt(f[12], 10, 64)
	return time.Duration(user+sys) * 10 * time.Millisecond // USER_HZ is 100
}

// Ran is for how long the threads that it has were on a processor, to the nanosecond.
func (p PID) Ran() (d time.Duration) {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", int(p)))
	for _, f := range tasks {
		b, _ := os.ReadFile(f)
		if s := strings.Fields(string(b)); len(s) > 0 {
			n, _ := strconv.ParseInt(s[0], 10, 64)
			d += time.Duration(n)
		}
	}
	return d
}

// RSS is what the process has in memory, in bytes, pages of its binary included.
func (p PID) RSS() int64 { return p.status("VmRSS:") }

// Anon is what of RSS is the process's own: heap, stacks, and what it wrote to.
func (p PID) Anon() int64 { return p.status("RssAnon:") }

// status is a size of /proc/PID/status, in bytes.
func (p PID) status(field string) int64 {
	for line := range strings.Lines(string(p.read("status"))) {
		if rest, ok := strings.CutPrefix(line, field); ok {
			kb, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kb << 10
		}
	}
	return 0
}

// Calls are the read and write system calls so far.
func (p PID) Calls() (reads, writes int64) {
	for line := range strings.Lines(string(p.read("io"))) {
		if n, ok := strings.CutPrefix(line, "syscr: "); ok {
			reads, _ = strconv.ParseInt(strings.TrimSpace(n), 10, 64)
		} else if n, ok := strings.CutPrefix(line, "syscw: "); ok {
			writes, _ = strconv.ParseInt(strings.TrimSpace(n), 10, 64)
		}
	}
	return reads, writes
}
