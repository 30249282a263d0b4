package token

import (
	"errors"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	authv1 "k8s.io/api/authentication/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	ktest "k8s.io/client-go/testing"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// reviewer answers with the status that a token names.
func reviewer(answers map[string]authv1.TokenReviewStatus, asked *int) *Reviewer {
	c := fake.NewClientset()
	c.PrependReactor("create", "tokenreviews", func(a ktest.Action) (bool, runtime.Object, error) {
		*asked++
		r := a.(ktest.CreateAction).GetObject().(*authv1.TokenReview).DeepCopy()
		st, ok := answers[r.Spec.Token]
		if !ok {
			return true, nil, errors.New("the API server is away")
		}
		r.Status = st
		return true, r, nil
	})
	return New(c.AuthenticationV1().TokenReviews(), "aud")
}

func TestVerify(t *testing.T) {
	good := func(user string) authv1.TokenReviewStatus {
		return authv1.TokenReviewStatus{Authenticated: true, Audiences: []string{"aud"}, User: authv1.UserInfo{Username: user}}
	}
	answers := map[string]authv1.TokenReviewStatus{
		"good":      good("system:serviceaccount:shop:waypoint"),
		"user":      good("alice"),
		"bare":      good("system:serviceaccount:shop"),
		"odd":       good("system:serviceaccount:shop:a:b"),
		"anonymous": good("system:serviceaccount::"),
		"refused":   {Error: "expired"},
		"other":     {Authenticated: true, Audiences: []string{"else"}, User: authv1.UserInfo{Username: "system:serviceaccount:shop:waypoint"}},
		"none":      {Authenticated: true, User: authv1.UserInfo{Username: "system:serviceaccount:shop:waypoint"}},
	}
	asked := 0
	r := reviewer(answers, &asked)
	for _, c := range []struct {
		token   string
		refused bool
		ok      bool
	}{
		{"good", false, true}, {"user", true, false}, {"bare", true, false}, {"odd", true, false}, {"anonymous", true, false},
		{"refused", true, false}, {"other", true, false}, {"none", true, false}, {"away", false, false}, {"", true, false},
		{strings.Repeat("x", maxToken+1), true, false},
	} {
		ns, sa, err := r.Verify(t.Context(), c.token)
		if c.ok != (err == nil) || c.refused != errors.Is(err, ErrRefused) {
			t.Errorf("%.10q: %v", c.token, err)
		}
		if c.ok && (ns != "shop" || sa != "waypoint") {
			t.Errorf("%q: %s/%s", c.token, ns, sa)
		}
		if !c.ok && ns+sa != "" {
			t.Errorf("%q: refused, and yet %s/%s", c.token, ns, sa)
		}
	}
}

func TestAnswersAreRememberedShortly(t *testing.T) {
	asked := 0
	r := reviewer(map[string]authv1.TokenReviewStatus{
		"t": {Authenticated: true, Audiences: []string{"aud"}, User: authv1.UserInfo{Username: "system:serviceaccount:a:b"}}, "no": {},
	}, &asked)
	now := time.Unix(1000, 0)
	r.now = func() time.Time { return now }
	for range 3 {
		if _, _, err := r.Verify(t.Context(), "t"); err != nil {
			t.Fatal(err)
		}
	}
	if asked != 1 {
		t.Errorf("asked %d times", asked)
	}
	now = now.Add(remember)
	if _, _, err := r.Verify(t.Context(), "t"); err != nil || asked != 2 {
		t.Errorf("asked %d times, %v", asked, err)
	}
	for range 2 {
		if _, _, err := r.Verify(t.Context(), "no"); err == nil {
			t.Fatal("taken")
		}
	}
	if asked != 4 {
		t.Errorf("a refusal is remembered: asked %d times", asked)
	}
}
