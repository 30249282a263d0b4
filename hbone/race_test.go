//go:build race

package hbone

// raceEnabled says that memory figures are the detector's.
const raceEnabled = true
