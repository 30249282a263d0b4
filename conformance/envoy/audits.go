package envoy

import (
	"strings"
	"sync"
	"time"

	"waypoint.dev/waypoint/telemetry"
)

// auditAgent starts the user-agent of questions whose audit is compared. The rest
// is the question, so that the record of an exchange names it.
const auditAgent = "audit-"

// audits keeps what the waypoint's records say about AUDIT policies.
type audits struct {
	mu   sync.Mutex
	more sync.Cond
	seen map[string]bool // by question
}

func newAudits() *audits {
	a := &audits{seen: map[string]bool{}}
	a.more.L = &a.mu
	return a
}

// Finish implements telemetry.Tracer.
func (a *audits) Finish(r *telemetry.Record) {
	if id, ok := strings.CutPrefix(r.UserAgent, auditAgent); ok {
		a.mu.Lock()
		a.seen[strings.Clone(id)] = r.Audit != ""
		a.mu.Unlock()
		a.more.Broadcast()
	}
}

// of waits for the record of a question and tells whether it was audited, in
// Envoy's words; empty if there is no record.
func (a *audits) of(id string) string {
	t := time.AfterFunc(patience, a.more.Broadcast)
	defer t.Stop()
	end := time.Now().Add(patience)
	a.mu.Lock()
	defer a.mu.Unlock()
	for {
		if yes, ok := a.seen[id]; ok {
			return map[bool]string{true: "true", false: "false"}[yes]
		}
		if time.Now().After(end) {
			return ""
		}
		a.more.Wait()
	}
}
