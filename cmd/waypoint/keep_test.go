package main

import (
	"bufio"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// With KEEP=1 the demo stays up until it is interrupted, and each curl line that it
// prints does what its comment says.
func TestDemoKeepsRunning(t *testing.T) {
	cmd := exec.Command(binary, "demo", "--config", shop(t))
	cmd.Env = append(os.Environ(), "KEEP=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	var said strings.Builder
	var lines []string
	for s := bufio.NewScanner(out); s.Scan(); {
		said.WriteString(s.Text() + "\n")
		if l, ok := strings.CutPrefix(strings.TrimSpace(s.Text()), "curl "); ok {
			lines = append(lines, l)
		}
		if strings.HasPrefix(s.Text(), "Ctrl-C") {
			break
		}
	}
	hc := &http.Client{Transport: &http.Transport{}, Timeout: 10 * time.Second}
	defer hc.CloseIdleConnections()
	for i, code := range []int{200, 200, 403, 403, 200, 200} {
		if i >= len(lines) {
			t.Fatalf("%d curl lines:\n%s", len(lines), said.String())
		}
		line, _, _ := strings.Cut(lines[i], " #")
		header := ""
		if rest, ok := strings.CutPrefix(line, "-H '"); ok {
			header, line, _ = strings.Cut(rest, "' ")
		}
		req, err := http.NewRequest("GET", strings.Trim(strings.TrimSpace(line), "'"), nil)
		if err != nil {
			t.Fatal(err)
		}
		if name, value, ok := strings.Cut(header, ": "); ok {
			req.Header.Set(name, value)
		}
		res, err := hc.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != code {
			t.Errorf("curl %s: %d, want %d", lines[i], res.StatusCode, code)
		}
	}
	hc.CloseIdleConnections()
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("exit %v\n%s", err, said.String())
	}
}
