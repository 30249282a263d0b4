// Package token verifies the service account tokens by which waypoints prove to the
// controller who they are.
//
// Data flow: a waypoint sends the projected token of its pod, made for the
// controller's audience; [Reviewer] asks the API server by TokenReview and answers
// with the account. An answer is remembered for a short time, so that thousands of
// streams that come back at once do not become as many reviews; a refusal is not
// remembered.
//
// Concurrency: safe for concurrent use. Memory is bounded by the size of the cache.
package token
