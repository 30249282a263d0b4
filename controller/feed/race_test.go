//go:build race

package feed

// slack is how much slower the race detector may be, and services how many it is
// tried with.
const slack, services = 10, 100
