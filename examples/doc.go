// Package examples holds one runnable folder for each feature: ordinary
// manifests, a README, and the answers that `waypoint explain` gives to some
// requests (expected.jsonl). Its test loads each folder and asks those questions,
// so the examples stay true. It has no code of its own.
package examples
