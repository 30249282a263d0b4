// Package house holds the rules of this repository as tests: which package may
// import what, that every package says what it is, that what documents and
// comments name is there, and what must not appear in the source. It has no code
// of its own.
package house
