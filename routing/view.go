package routing

import "unsafe"

// view borrows the joined value as a string: valid until the next join.
func (j *joined) view() string { return unsafe.String(unsafe.SliceData(j.b), len(j.b)) }
