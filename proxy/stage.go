package proxy

import (
	"waypoint.dev/waypoint/config"
	"waypoint.dev/waypoint/routing"
)

// stages runs the steps of the chain in their order and reports whether the
// request goes on. The route is matched before the first step that depends on it.
func (x *exchange) stages() bool {
	c := x.chain
	cors := false
	for i := range c.Stages {
		st := &c.Stages[i]
		switch st.Kind {
		case config.StageGRPCWeb:
			x.wrapWeb() // from here on answers are for its client
			fallthrough
		case config.StageFault, config.StageCORS, config.StageRateLimit:
			if x.result.Rule == nil && !x.match() {
				return false
			}
		}
		if x.dry && (st.Kind == config.StageFault || st.Kind == config.StageRateLimit) {
			x.notAsked = append(x.notAsked, stageName(st.Kind))
			continue
		}
		var ok bool
		switch st.Kind {
		case config.StageAuthz:
			ok = x.authorize(st.Authz)
		case config.StageCustom:
			ok = x.custom(st)
		case config.StageJWT:
			ok = x.verify(st.Run)
		case config.StageFault:
			ok = x.fault()
		case config.StageRateLimit:
			ok = x.rateLimit(st.Run)
		case config.StageCORS:
			cors = true
			ok = x.crossOrigin()
		case config.StageHeaders:
			x.fields, x.req.Authority = st.Headers.ApplyRequest(x.fields, x.req.Authority, x)
			x.req.Headers = x.fields
			ok = true
		case config.StageGRPCWeb:
			ok = x.translateWeb()
		default:
			ok = x.runnable(false, "unknown")
		}
		if !ok {
			return false
		}
	}
	if x.result.Rule == nil && !x.match() {
		return false
	}
	return cors || x.crossOrigin()
}

func stageName(k config.StageKind) string {
	if k == config.StageFault {
		return "fault injection"
	}
	return "rate limit"
}

// runnable fails closed for a stage that nothing runs.
func (x *exchange) runnable(known bool, name string) bool {
	if !known {
		x.rec.Reason = "stage_unavailable"
		x.answer(reply{status: 503, details: "stage_unavailable{" + name + "}"})
	}
	return known
}

// crossOrigin applies the CORS policy of the matched rule, or of its backend: where a
// backend has one of its own, that is picked first.
func (x *exchange) crossOrigin() bool {
	rule := x.result.Rule
	x.origins = rule.CORS
	if rule.BackendCORS && x.pickBackend() {
		x.origins = x.backend.CORS
	}
	x.cors = x.origins.Check(&x.req)
	switch x.cors {
	case routing.CORSPreflight:
		x.answer(reply{status: routing.CORSStatus, fields: x.origins.AppendPreflight(nil, &x.req), details: "cors_response", plain: true})
		return false
	case routing.CORSRefused:
		x.answer(reply{status: routing.CORSStatus, details: "cors_response", plain: true})
		return false
	}
	return true
}
