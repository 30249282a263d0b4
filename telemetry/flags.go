package telemetry

// Flags are Envoy's response flags, as they appear in the access log and in the
// response_flags label.
type Flags uint32

// In the order in which Envoy prints them when several are set
// (StreamInfo::ResponseFlagUtils).
const (
	FlagUH    Flags = 1 << iota // no healthy upstream
	FlagUT                      // upstream request timeout
	FlagLR                      // local reset
	FlagUR                      // upstream remote reset
	FlagUF                      // upstream connection failure
	FlagUC                      // upstream connection termination
	FlagUO                      // upstream overflow (circuit breaker)
	FlagNR                      // no route
	FlagDI                      // delay injected
	FlagFI                      // fault injected
	FlagRL                      // rate limited
	FlagUAEX                    // external authorization denied
	FlagRLSE                    // rate limit service error
	FlagDC                      // downstream connection termination
	FlagURX                     // retry limit exceeded
	FlagSI                      // stream idle timeout
	FlagIH                      // invalid envoy headers
	FlagDPE                     // downstream protocol error
	FlagUMSDR                   // upstream max stream duration reached
	FlagOM                      // overload manager
	FlagDT                      // downstream duration timeout
	FlagUPE                     // upstream protocol error
	FlagNC                      // no cluster found
	flagEnd
)

var flagNames = [...]string{
	"UH", "UT", "LR", "UR", "UF", "UC", "UO", "NR", "DI", "FI", "RL", "UAEX", "RLSE",
	"DC", "URX", "SI", "IH", "DPE", "UMSDR", "OM", "DT", "UPE", "NC",
}

// Append writes the flags as Envoy does: short names joined by commas, "-" for none.
func (f Flags) Append(b []byte) []byte {
	if f == 0 {
		return append(b, '-')
	}
	first := true
	for i, n := range flagNames {
		if f&(1<<i) == 0 {
			continue
		}
		if !first {
			b = append(b, ',')
		}
		b = append(b, n...)
		first = false
	}
	return b
}

// String is Append for people; single flags and none do not allocate.
func (f Flags) String() string {
	if f == 0 {
		return "-"
	}
	for i, n := range flagNames {
		if f == 1<<i {
			return n
		}
	}
	return string(f.Append(nil))
}

// envoyBits are the numbers of the flags in Envoy's CoreResponseFlag, in the order
// of ours.
var envoyBits = [...]uint8{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 25, 22, 23, 24}

// envoy is the number that expressions compare as response.flags.
func (f Flags) envoy() (n int64) {
	for i, bit := range envoyBits {
		if f&(1<<i) != 0 {
			n |= 1 << bit
		}
	}
	return n
}

// ParseFlags reads short names, as access log filters have them; unknown ones are
// left out.
func ParseFlags(names []string) (f Flags) {
	for i, have := range flagNames {
		for _, n := range names {
			if n == have {
				f |= 1 << i
			}
		}
	}
	return f
}
