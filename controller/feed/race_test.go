//go:build race

package feed

// slack is how much slower the race detector may be.
const slack = 10
