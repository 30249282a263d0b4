package main

import (
	"bytes"
	"fmt"
	"os"

	"waypoint.dev/waypoint/resilience/session"
)

// maxSessionKeys bounds the file: a few keys while one replaces another.
const maxSessionKeys = 64 << 10

// sessionKeeper reads the secrets of session tokens: one a line, of which the first
// makes tokens and all are accepted, so that a key is rotated by putting the new one
// on top. Without a file it returns nil: the proxy makes a key of its own.
func sessionKeeper(path string) (*session.Keeper, error) {
	if path == "" {
		return nil, nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("--session-key-file: %w", err)
	}
	if len(b) > maxSessionKeys {
		return nil, fmt.Errorf("--session-key-file: %s is larger than %d bytes", path, maxSessionKeys)
	}
	var secrets [][]byte
	for line := range bytes.Lines(b) {
		if line = bytes.TrimSpace(line); len(line) > 0 {
			secrets = append(secrets, line)
		}
	}
	k, err := session.NewKeeper(secrets...)
	if err != nil {
		return nil, fmt.Errorf("--session-key-file %s: %w", path, err)
	}
	return k, nil
}
