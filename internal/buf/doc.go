// Package buf pools byte buffers in size classes.
//
// Data flow: [Take] hands out a [Buf] of at least the size asked for, its owner
// fills and reads [Buf.B], [Buf.Release] gives it back.
//
// Ownership words, used all over the data path: to take is to own until
// released; to borrow is to look at bytes that someone else owns, for as long as
// he says; to release ends ownership, and every borrowed view (an unsafe string
// too) ends with it. A view that outlives its buffer is a bug that [SetPoison]
// makes visible: released bytes are overwritten, and releasing twice panics.
//
// Concurrency: Take and Release are safe from any goroutine; one Buf has one
// owner at a time. Allocation: none once the pools are warm, for sizes up to
// [MaxPooled].
//
// This is a leaf: it imports the standard library only.
package buf
