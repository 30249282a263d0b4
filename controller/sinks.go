package controller

import (
	"log/slog"

	"waypoint.dev/waypoint/config/kube"
	"waypoint.dev/waypoint/controller/feed"
	"waypoint.dev/waypoint/controller/watch"
)

// sinks hands everything to each of several sinks, in order.
type sinks []watch.Sink

func (s sinks) Put(it *watch.Item, content bool) {
	for _, x := range s {
		x.Put(it, content)
	}
}

func (s sinks) Delete(k kube.Key) {
	for _, x := range s {
		x.Delete(k)
	}
}

func (s sinks) Replace(group, kind string, items []*watch.Item) {
	for _, x := range s {
		x.Replace(group, kind, items)
	}
}

func (s sinks) Synced() {
	for _, x := range s {
		x.Synced()
	}
}

// feedSink puts configuration, not status, into the store of the object feed.
type feedSink struct {
	store *feed.Store
	log   *slog.Logger
}

func (f feedSink) Put(it *watch.Item, content bool) {
	if content {
		f.failed(f.store.Put(feed.Object{Key: it.Key, Version: it.Version, JSON: it.JSON}))
	}
}

func (f feedSink) Delete(k kube.Key) { f.store.Delete(k) }

func (f feedSink) Replace(group, kind string, items []*watch.Item) {
	objs := make([]feed.Object, len(items))
	for i, it := range items {
		objs[i] = feed.Object{Key: it.Key, Version: it.Version, JSON: it.JSON}
	}
	f.failed(f.store.Replace(group, kind, objs))
}

func (f feedSink) Synced() { f.store.SetSynced() }

func (f feedSink) failed(err error) {
	if err != nil {
		f.log.Error("objects are not fed; waypoints keep their last version", "error", err)
	}
}
