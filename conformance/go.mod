module waypoint.dev/waypoint/conformance

go 1.26.0

require waypoint.dev/waypoint v0.0.0

require (
	golang.org/x/net v0.62.0 // indirect
	golang.org/x/text v0.43.0 // indirect
	golang.org/x/time v0.16.0 // indirect
)

replace waypoint.dev/waypoint => ../
