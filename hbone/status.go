package hbone

// What is said of a CONNECT (RFC 9110 sections 9.3.6 and 15).
const (
	methodConnect = "CONNECT"

	statusOK          = 200
	statusBadRequest  = 400
	statusUnavailable = 503
)
