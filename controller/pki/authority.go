package pki

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	typed "k8s.io/client-go/kubernetes/typed/core/v1"
)

// look is how often an Authority reads its Secret again. A rotation by another
// replica takes effect within it, far below the overlap.
const look = time.Hour

// retry is the pause after the Secret could not be read or written.
const retry = 5 * time.Second

// Authority is a Source whose CA stands in a Secret.
type Authority struct {
	state

	// Fixed after NewAuthority.
	secrets typed.SecretInterface
	name    string
	names   []string
	log     *slog.Logger
	now     func() time.Time

	issuer *x509.Certificate // owned by the caller of step: who signed the present leaf
}

// NewAuthority returns a Source for servers of those DNS names, whose CA stands in
// the Secret of that name. The first certificate is there when Load has returned.
func NewAuthority(secrets typed.SecretInterface, name string, dnsNames []string, log *slog.Logger) *Authority {
	return &Authority{secrets: secrets, name: name, names: dnsNames, log: log, now: time.Now}
}

// Load reads the CA, or makes it, and signs the first certificate. It tries until
// ctx ends: the API server may come later.
func (a *Authority) Load(ctx context.Context) error {
	for {
		err := a.step(ctx)
		if err == nil {
			return nil
		}
		a.log.Error("the CA of the controller cannot be read", "secret", a.name, "error", err)
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(retry):
		}
	}
}

// Run renews the certificate and turns the CA over until ctx ends.
func (a *Authority) Run(ctx context.Context) {
	pause := look
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		pause = look
		if err := a.step(ctx); err != nil {
			pause = time.Minute
			a.log.Error("the CA of the controller cannot be read; the last certificate stays", "secret", a.name, "error", err)
		}
	}
}

// step brings certificate and Secret up to date.
func (a *Authority) step(ctx context.Context) error {
	b, err := a.read(ctx)
	if err != nil {
		return err
	}
	now := a.now()
	cert, _ := a.Certificate(nil)
	if cert == nil || !a.issuer.Equal(b.current.cert) || now.After(cert.Leaf.NotAfter.Add(-leafLife/2)) {
		if cert, err = b.current.leaf(a.names, now); err != nil {
			return err
		}
		a.issuer = b.current.cert
	}
	a.publish(cert, b.roots())
	return nil
}

// read returns the Secret's content, made or turned over if that is due. Replicas
// that do so at the same time agree on who was first.
func (a *Authority) read(ctx context.Context) (*bundle, error) {
	for {
		s, err := a.secrets.Get(ctx, a.name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			ca, err := newAuthority(a.now())
			if err != nil {
				return nil, err
			}
			b := &bundle{current: ca}
			data, err := b.data()
			if err != nil {
				return nil, err
			}
			_, err = a.secrets.Create(ctx, &corev1.Secret{
				ObjectMeta: metav1.ObjectMeta{Name: a.name, Labels: map[string]string{"app.kubernetes.io/managed-by": "waypoint-controller"}},
				Type:       corev1.SecretTypeTLS, Data: data,
			}, metav1.CreateOptions{})
			if apierrors.IsAlreadyExists(err) {
				continue
			}
			return b, err
		}
		if err != nil {
			return nil, err
		}
		b, err := parseBundle(s.Data)
		if err != nil {
			// It is not replaced: someone's own CA with a slip in it is not ours to throw away.
			return nil, fmt.Errorf("secret %s: %w", a.name, err)
		}
		turned, err := b.turn(a.now())
		if err != nil || !turned {
			return b, err
		}
		if s.Data, err = b.data(); err != nil {
			return nil, err
		}
		if _, err = a.secrets.Update(ctx, s, metav1.UpdateOptions{}); apierrors.IsConflict(err) {
			continue
		}
		if err == nil {
			a.log.Info("turned the controller's CA over", "secret", a.name)
		}
		return b, err
	}
}
