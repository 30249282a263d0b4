package jwt

// status is the outcome of verifying a token. The texts are those that Envoy
// sends as the body, which users and their dashboards know.
type status uint8

const (
	ok status = iota
	missed
	unknownIssuer
	badFormat
	badHeaderBase64
	badHeaderJSON
	badAlg
	unsupportedAlg
	badKid
	badCrit
	badPayloadBase64
	badPayloadJSON
	badIss
	badSub
	badExp
	badNbf
	badIat
	expRange
	nbfRange
	iatRange
	badAud
	badSignatureBase64
	notYetValid
	expired
	badAudience
	noKeys
	noMatchingKey
	badSignature
	fetchFailed
	tooMany
)

var statusText = [...]string{
	ok:                 "",
	missed:             "Jwt is missing",
	unknownIssuer:      "Jwt issuer is not configured",
	badFormat:          "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections",
	badHeaderBase64:    "Jwt header is an invalid Base64url encoded",
	badHeaderJSON:      "Jwt header is an invalid JSON",
	badAlg:             "Jwt header [alg] field is required and must be a string",
	unsupportedAlg:     "Jwt header [alg] is not supported",
	badKid:             "Jwt header [kid] field is not a string",
	badCrit:            "Jwt header [crit] is not supported",
	badPayloadBase64:   "Jwt payload is an invalid Base64url encoded",
	badPayloadJSON:     "Jwt payload is an invalid JSON",
	badIss:             "Jwt payload [iss] field is not a string",
	badSub:             "Jwt payload [sub] field is not a string",
	badExp:             "Jwt payload [exp] field is not an integer",
	badNbf:             "Jwt payload [nbf] field is not an integer",
	badIat:             "Jwt payload [iat] field is not an integer",
	expRange:           "Jwt payload [exp] field is not a positive 64 bit integer",
	nbfRange:           "Jwt payload [nbf] field is not a positive 64 bit integer",
	iatRange:           "Jwt payload [iat] field is not a positive 64 bit integer",
	badAud:             "Jwt payload [aud] field is not a string or string list",
	badSignatureBase64: "Jwt signature is an invalid Base64url encoded",
	notYetValid:        "Jwt not yet valid",
	expired:            "Jwt is expired",
	badAudience:        "Audiences in Jwt are not allowed",
	noKeys:             "Jwks doesn't have any valid public key",
	noMatchingKey:      "Jwks doesn't have key to match kid or alg from Jwt",
	badSignature:       "Jwt verification fails",
	fetchFailed:        "Jwks remote fetch is failed",
	tooMany:            "Found multiple Jwt tokens",
}
