package istiod

import (
	"fmt"
	"slices"
	"strings"
)

// Command operators that header edits may hold: those that a record of package
// telemetry has a value for when the head is written. Arguments are checked here, as
// nobody can be told later.
var (
	requestOperators = []string{
		"REQ", "PROTOCOL", "START_TIME", "HOSTNAME", "ENVIRONMENT", "FILTER_STATE", "REQUESTED_SERVER_NAME", "TRACE_ID", "DOWNSTREAM_PEER_URI_SAN",
		"DOWNSTREAM_REMOTE_ADDRESS", "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", "DOWNSTREAM_REMOTE_PORT",
		"DOWNSTREAM_DIRECT_REMOTE_ADDRESS", "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT", "DOWNSTREAM_DIRECT_REMOTE_PORT",
		"DOWNSTREAM_LOCAL_ADDRESS", "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", "DOWNSTREAM_LOCAL_PORT",
	}
	responseOperators = append(slices.Clone(requestOperators),
		"RESPONSE_CODE", "RESPONSE_FLAGS", "RESPONSE_CODE_DETAILS", "UPSTREAM_HOST", "UPSTREAM_CLUSTER", "UPSTREAM_CLUSTER_RAW",
		"UPSTREAM_REMOTE_ADDRESS", "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", "UPSTREAM_REMOTE_PORT")

	peerParts = []string{"namespace", "cluster", "service", "revision", "app", "version", "workload", "type", "name"}
)

// value reads a header's value: a literal one, or a format of command operators.
func value(s string, allowed []string) (text, format string, err error) {
	if text, err = literal(s); err == nil {
		return text, "", nil
	}
	return "", s, checkFormat(s, allowed)
}

// checkFormat refuses a format with an operator that is not known.
func checkFormat(s string, allowed []string) error {
	for {
		_, rest, found := strings.Cut(s, "%")
		if !found {
			return nil
		}
		if rest, found = strings.CutPrefix(rest, "%"); found {
			s = rest
			continue
		}
		op, after, found := strings.Cut(rest, "%")
		if !found {
			return fmt.Errorf("command operator %%%s does not end", rest)
		}
		name, arg := op, ""
		if i := strings.IndexByte(op, '('); i >= 0 {
			if !strings.HasSuffix(op, ")") { // such as a limit of the length
				return fmt.Errorf("command operator %%%s%% is not supported", op)
			}
			name, arg = op[:i], op[i+1:len(op)-1]
		}
		if !slices.Contains(allowed, name) || !takes(name, arg) || strings.ContainsAny(name+arg, "() ") {
			return fmt.Errorf("command operator %%%s%% is not supported", op)
		}
		s = after
	}
}

// takes reports whether an operator takes the argument.
func takes(name, arg string) bool {
	switch name {
	case "REQ", "ENVIRONMENT":
		return arg != "" && !strings.HasPrefix(arg, "?")
	case "FILTER_STATE":
		key, field, _ := strings.Cut(arg, ":")
		_, part, _ := strings.Cut(field, ":")
		switch strings.TrimSuffix(key, "_obj") {
		case peerPrincipalKey:
			return true
		case "downstream_peer", "upstream_peer":
			return slices.Contains(peerParts, part)
		}
		return false
	}
	return arg == ""
}
