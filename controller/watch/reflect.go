package watch

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	apiwatch "k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/cache"

	"waypoint.dev/waypoint/config/kube"
)

// Selection narrows what is watched; the zero value selects everything.
type Selection struct {
	Namespace      string
	Labels, Fields string // selectors
}

// Named selects the object of one name.
func Named(name string) Selection {
	return Selection{Fields: fields.OneTermEqualSelector("metadata.name", name).String()}
}

// Follow tells a sink about the selected objects of one kind until ctx ends. The
// sink's Synced is called after the first list.
func Follow(ctx context.Context, client dynamic.Interface, k Kind, sel Selection, sink Sink, log *slog.Logger) {
	var lists atomic.Int64
	s := &store{kind: k, sink: sink, first: make(chan struct{}), lists: &lists, have: map[kube.Key]seen{},
		refused: func(err error) { log.Error("an object cannot be read and is left out", "error", err) },
		convert: func(obj any) (*Item, error) {
			u, err := as[*unstructured.Unstructured](obj)
			if err != nil {
				return nil, err
			}
			return custom(k, u)
		},
	}
	var r dynamic.ResourceInterface = client.Resource(k.GVR())
	if sel.Namespace != "" {
		r = client.Resource(k.GVR()).Namespace(sel.Namespace)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-s.first:
			sink.Synced()
		case <-ctx.Done():
		}
	}()
	reflect(ctx, k.Kind, dynamicLister(r, sel), client, s, log)
	<-done
}

// NewItem makes the item of an object as the API server answered it. It takes u
// over.
func NewItem(k Kind, u *unstructured.Unstructured) (*Item, error) { return custom(k, u) }

// away is how long to wait for an API server that does not answer: soon at first,
// then every few seconds, so that its restart is over before it is noticed here.
var away = wait.Backoff{Duration: 200 * time.Millisecond, Factor: 2, Jitter: 0.5, Steps: 6, Cap: 5 * time.Second}

// reflect keeps a store like the API server until ctx ends.
func reflect(ctx context.Context, name string, lw *cache.ListWatch, client any, s cache.ReflectorStore, log *slog.Logger) {
	logger := logr.FromSlogHandler(log.Handler())
	backoff := away
	cache.NewReflectorWithOptions(cache.ToListWatcherWithWatchListSemantics(lw, client), nil, s, cache.ReflectorOptions{
		Logger: &logger, Name: "watch", TypeDescription: name, Backoff: &backoff,
	}).RunWithContext(ctx)
}

func dynamicLister(client dynamic.ResourceInterface, sel Selection) *cache.ListWatch {
	return lister(func(ctx context.Context, o metav1.ListOptions) (*unstructured.UnstructuredList, error) {
		return client.List(ctx, o)
	}, client.Watch, sel)
}

// lister asks for the selected objects.
func lister[T runtime.Object](list func(context.Context, metav1.ListOptions) (T, error), follow func(context.Context, metav1.ListOptions) (apiwatch.Interface, error), sel Selection) *cache.ListWatch {
	return &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			o.FieldSelector, o.LabelSelector = sel.Fields, sel.Labels
			return list(ctx, o)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (apiwatch.Interface, error) {
			o.FieldSelector, o.LabelSelector = sel.Fields, sel.Labels
			return follow(ctx, o)
		},
	}
}
