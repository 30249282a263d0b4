//go:build !race

package feed

// slack is none without the race detector, and services a tenth of what is to be
// served.
const slack, services = 1, 1000
