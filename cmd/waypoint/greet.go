package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"waypoint.dev/waypoint/agent"
)

// istiod's monitoring port, where /version tells what it is to anybody. On the
// configuration stream it says so only to who debugs it (pilot/pkg/xds: ControlPlane).
const (
	monitoringPort = "15014"
	askLimit       = 5 * time.Second
)

// greet says which istiod this is, and warns of versions that were not compared.
// identifier is what a control plane says on the stream, if it does.
func greet(identifier string, log *slog.Logger) {
	var id struct {
		ID   string
		Info struct{ Version string }
	}
	if json.Unmarshal([]byte(identifier), &id) == nil {
		judge(id.Info.Version, id.ID, log)
	}
}

// judge compares a version with the tested range.
func judge(version, id string, log *slog.Logger) {
	if ok, known := agent.SupportedIstiod(version); known && !ok {
		log.Warn("this istiod is outside the range that was tested; what it sends and is not known here fails closed", "istiod", id, "version", version,
			"tested", agent.MinIstiod+" to "+agent.MaxIstiod)
		return
	}
	log.Info("connected", "istiod", id, "version", version)
}

// askVersion asks the istiod behind a discovery address for its version. It is for
// the log alone: the answer comes unprotected, and none is no trouble.
func askVersion(ctx context.Context, discovery string, log *slog.Logger) {
	host, _, err := net.SplitHostPort(discovery)
	if err != nil {
		return
	}
	version, err := versionAt(ctx, "http://"+net.JoinHostPort(host, monitoringPort)+"/version")
	if err != nil {
		log.Debug("istiod does not tell its version", "error", err)
		return
	}
	judge(version, host, log)
}

func versionAt(ctx context.Context, url string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	tr := &http.Transport{DisableKeepAlives: true} // and no proxy of the environment
	defer tr.CloseIdleConnections()
	res, err := tr.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, 256))
	if err != nil {
		return "", err
	}
	if res.StatusCode != http.StatusOK {
		return "", fmt.Errorf("status %d", res.StatusCode)
	}
	return strings.TrimSpace(string(b)), nil
}
