package token

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	authv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	typed "k8s.io/client-go/kubernetes/typed/authentication/v1"
)

const (
	// remember is short: a token of a deleted pod is refused that soon.
	remember = time.Minute
	// capacity bounds the cache; beyond it the whole is dropped.
	capacity = 10_000
	// maxToken is far above a projected token's one or two KiB.
	maxToken = 16 << 10
)

// ErrRefused is why a token is not taken. An API server that does not answer is
// another error.
var ErrRefused = errors.New("the token is refused")

// Reviewer verifies tokens. Make it with New.
type Reviewer struct {
	// Fixed after New.
	reviews  typed.TokenReviewInterface
	audience string
	now      func() time.Time

	mu    sync.Mutex
	known map[[sha256.Size]byte]answer // guarded by mu, by the token's hash
}

type answer struct {
	namespace, account string
	until              time.Time
}

// New returns a Reviewer of tokens that were made for the audience.
func New(reviews typed.TokenReviewInterface, audience string) *Reviewer {
	return &Reviewer{reviews: reviews, audience: audience, now: time.Now, known: map[[sha256.Size]byte]answer{}}
}

// Verify returns whose token it is.
func (r *Reviewer) Verify(ctx context.Context, token string) (namespace, account string, err error) {
	if token == "" || len(token) > maxToken {
		return "", "", fmt.Errorf("%w: it has %d bytes", ErrRefused, len(token))
	}
	sum := sha256.Sum256([]byte(token))
	now := r.now()
	r.mu.Lock()
	a, ok := r.known[sum]
	r.mu.Unlock()
	if ok && now.Before(a.until) {
		return a.namespace, a.account, nil
	}
	res, err := r.reviews.Create(ctx, &authv1.TokenReview{Spec: authv1.TokenReviewSpec{Token: token, Audiences: []string{r.audience}}}, metav1.CreateOptions{})
	if err != nil {
		return "", "", fmt.Errorf("the API server does not review the token: %w", err)
	}
	st := &res.Status
	switch {
	case !st.Authenticated:
		return "", "", fmt.Errorf("%w: %s", ErrRefused, orUnknown(st.Error))
	case !slices.Contains(st.Audiences, r.audience):
		// An authenticator that knows no audiences answers without them.
		return "", "", fmt.Errorf("%w: it was not made for %q", ErrRefused, r.audience)
	}
	rest, ok := strings.CutPrefix(st.User.Username, "system:serviceaccount:")
	namespace, account, ok2 := strings.Cut(rest, ":")
	if !ok || !ok2 || namespace == "" || account == "" || strings.Contains(account, ":") {
		return "", "", fmt.Errorf("%w: it is not that of a service account", ErrRefused)
	}
	r.mu.Lock()
	if len(r.known) >= capacity {
		clear(r.known)
	}
	r.known[sum] = answer{namespace, account, now.Add(remember)}
	r.mu.Unlock()
	return namespace, account, nil
}

func orUnknown(s string) string {
	if s == "" {
		return "the API server does not know it"
	}
	return s
}
