//go:build !go1.26 || go1.27

package hbone

const recordsToolchain = false
