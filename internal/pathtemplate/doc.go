// Package pathtemplate matches request paths against templates such as
// /store/{*}/item/{**}.
//
// {*} takes one or more characters of a segment, {**} zero or more characters
// and slashes; both take only the characters of Envoy's URI templates (RFC 3986
// pchar), so a raw bracket, space or byte above 0x7f never matches. Slashes
// around an operator are literal and the whole path has to match.
//
// A [Template] is parsed once and immutable; Match takes one pass over the path
// and does not allocate.
package pathtemplate
