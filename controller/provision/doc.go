// Package provision runs a waypoint for each Gateway of our class: it makes the
// Deployment, Service, ServiceAccount, HorizontalPodAutoscaler, PodDisruptionBudget
// and trust ConfigMap, and says in the Gateway's status how that goes.
//
// Data flow: a [Reconciler] is fed Gateways, GatewayClasses and what it made
// itself; for each Gateway that changes it renders the objects ([Render], a pure
// function), lays the parameters of class and Gateway over them, and applies them
// server-side as one field manager, owned by the Gateway. Objects that are not
// wanted any more are deleted, those of a deleted Gateway go by their owner
// reference. An object of the same name that belongs to someone else is never
// touched: the Gateway's status names it. Each apply and deletion is of the uid that
// was judged. A Deployment's replicas are handed to its autoscaler as they are.
// Without an image nothing is made, and a Gateway has the address of the Service that
// others made for it.
//
// Concurrency: events may come from any goroutine; one worker reconciles.
package provision
