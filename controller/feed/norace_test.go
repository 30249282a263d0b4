//go:build !race

package feed

// slack is none without the race detector.
const slack = 1
