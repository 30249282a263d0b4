// Package feed connects the ADS client to the translation of istiod's resources:
// it hands responses over, subscribes to what they name, and decides when a new
// model is built.
//
// Data flow:
//
//	xds.Client -> Feed.Apply -> World.Apply -> what it wants -> Client.Subscribe
//	                          \-> dirty -> Run: quiet for a moment, warm -> World.Model -> Publish
//
// A push of istiod is a burst of responses: the model is built when the burst is
// over, or at the latest after a fixed time, and not while endpoints of new
// clusters are on their way. The first model needs clusters and listeners. What never
// comes is waited for once; missing secrets are asked for again.
//
// Everything received is kept as it came, for config_dump.
//
// Concurrency: Apply is called by the client's goroutine, Run has its own, all
// else may be called from anywhere; one mutex holds the world. Nothing here is on
// the request path.
package feed
