package lab

import (
	"context"
	"os"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"waypoint.dev/waypoint/conformance/lab/kubelet"
)

const bin = "/usr/local/bin/"

func (l *Lab) setImages() {
	b := l.opts.Binaries
	l.Kubelet.SetImage(ImageWaypoint, l.WaypointImage())
	l.Kubelet.SetImage(imageEcho, kubelet.Image{
		Entrypoint: []string{bin + "server"},
		Args:       []string{"--metrics=15014"}, // EchoMetrics
		Files: map[string]string{
			bin + "server": b.EchoServer, bin + "client": b.EchoClient,
			"/cert.crt": filepath.Join(l.opts.Dir, "echo.crt"), "/cert.key": filepath.Join(l.opts.Dir, "echo.key"),
		},
		UID: echoUser,
	})
}

// echoUser is that of the application's own image.
const echoUser = 1338

// WaypointImage is the image that the repository's Dockerfile makes.
func (l *Lab) WaypointImage() kubelet.Image {
	b := l.opts.Binaries
	return kubelet.Image{
		Entrypoint: []string{bin + "waypoint"},
		Files:      map[string]string{bin + "waypoint": b.Waypoint, bin + "waypoint-controller": b.Controller},
		UID:        1337,
	}
}

// spiffeVolume writes the certificate of a pod's service account.
func (l *Lab) spiffeVolume(_ context.Context, pod *corev1.Pod, dir string) error {
	if _, err := os.Stat(filepath.Join(dir, "tls.crt")); err == nil {
		return nil // it lives longer than the lab
	}
	sa := pod.Spec.ServiceAccountName
	if sa == "" {
		sa = "default"
	}
	chain, key, err := l.issue(pod.Namespace, sa)
	if err != nil {
		return err
	}
	return writeFiles(dir, map[string][]byte{"tls.key": key, "ca.crt": l.CA.Bundle().PEM, "tls.crt": chain})
}

// certLife is far above a lab's.
const certLife = 24 * time.Hour

func (l *Lab) issue(namespace, account string) (chain, key []byte, err error) {
	svid, err := l.CA.Issue(namespace, account, certLife)
	if err != nil {
		return nil, nil, err
	}
	return svid.PEM()
}

func writeFiles(dir string, files map[string][]byte) error {
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func isNotFound(err error) bool { return apierrors.IsNotFound(err) }
