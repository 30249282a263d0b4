// Package scenarios holds the tests that ask requests of what a real istiod sent for
// ten sets of objects (config/istiod/testdata): through the whole data path, once
// with the recorded resources and once, where config/kube implements the kinds, with
// the objects themselves. Each answer has to be what the objects mean, and both ways
// in have to give the same one but for the differences that docs/compatibility.md
// lists.
//
// It has no code of its own but tests, which use loopback addresses in 127.61.0.0/16.
package scenarios
