package config

import (
	"fmt"

	"waypoint.dev/waypoint/authz"
)

// stages compiles the pipeline of a chain. What guards a destination and cannot be
// run breaks the chain; it is never left out.
func (c *compiler) stages(ch, prev *Chain) {
	d := ch.Spec
	ch.Stages = make([]CompiledStage, len(d.Stages))
	for i := range d.Stages {
		st := &d.Stages[i]
		out := &ch.Stages[i]
		*out = CompiledStage{Kind: st.Kind, Spec: st, Headers: st.Headers}
		switch st.Kind {
		case StageAuthz, StageCustom:
			out.Authz = authz.Compile(st.Policies)
			if out.Authz.NeedsHTTP() {
				ch.HTTPOnly = true
			}
		case StageJWT, StageRateLimit:
			ch.HTTPOnly = true
		}
		if st.Spec == nil {
			continue
		}
		if c.env.Stage == nil {
			// What guards a destination and has nobody to run it must not be skipped.
			switch st.Kind {
			case StageCustom, StageJWT, StageRateLimit:
				ch.Broken = fmt.Sprintf("stage %d (%s) is not implemented", i, stageNames[st.Kind])
				ch.problem(fmt.Sprintf("stages[%d]", i), stageNames[st.Kind]+" is not implemented; every request answers 503")
			}
			continue
		}
		var before any
		if prev != nil && i < len(prev.Stages) && prev.Stages[i].Kind == st.Kind {
			before = prev.Stages[i].Run
		}
		run, err := c.env.Stage(d, st, before)
		if err != nil {
			msg := err.Error()
			if run = before; run == nil {
				ch.Broken = fmt.Sprintf("stage %d: %s", i, msg)
				msg += "; every request answers 503"
			} else {
				msg += "; the last good version serves"
			}
			ch.problem(fmt.Sprintf("stages[%d]", i), msg)
		}
		out.Run = run
	}
}

var stageNames = [...]string{
	StageCustom: "external authorization", StageJWT: "JWT", StageAuthz: "authorization", StageFault: "fault",
	StageCORS: "CORS", StageRateLimit: "rate limit", StageHeaders: "headers",
	StageGRPCWeb: "gRPC-Web",
}
