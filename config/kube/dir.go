package kube

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"waypoint.dev/waypoint/config"
)

// Dir reads the manifests below a directory into Objects. It belongs to one goroutine.
type Dir struct {
	path  string
	files map[string]*file // by path relative to the directory
	objs  *Objects
	seen  [32]byte // of the content that Changed saw last
	used  [32]byte // of the content that is in objs
}

type file struct {
	sum  [32]byte
	objs []*Object
	err  error // why the newest content is not used; objs are of the last that was
}

// NewDir returns a Dir that has read nothing.
func NewDir(path string) *Dir {
	return &Dir{path: path, files: map[string]*file{}, objs: NewObjects()}
}

// LoadDir reads a directory once. The error joins those of all files that cannot be
// read; the rest is in the objects nevertheless, with the errors among its Problems.
func LoadDir(path string) (*Objects, error) {
	d := NewDir(path)
	_, err := d.Load()
	return d.objs, err
}

// Objects returns the store that Load fills.
func (d *Dir) Objects() *Objects { return d.objs }

// Load reads what changed. A file that cannot be read or parsed keeps the objects
// it had. changed is false when the directory is as it was at the last Load.
func (d *Dir) Load() (changed bool, err error) {
	content, sum, err := readDir(d.path)
	if err != nil {
		return false, err
	}
	return d.apply(content, sum)
}

// Settled reads the directory and applies it only when it is as it was at the last
// call: someone who is still writing files is given until the next one.
func (d *Dir) Settled() (changed bool, err error) {
	content, sum, err := readDir(d.path)
	if err != nil {
		return false, err
	}
	if sum == d.used {
		d.seen = sum
		return false, nil
	}
	if sum != d.seen {
		d.seen = sum
		return false, nil
	}
	return d.apply(content, sum)
}

func (d *Dir) apply(content map[string]content, sum [32]byte) (bool, error) {
	d.seen = sum
	if sum == d.used {
		return false, nil
	}
	d.used = sum
	blind := false
	for name, c := range content {
		f := d.files[name]
		if f == nil {
			f = &file{}
			d.files[name] = f
		} else if f.sum == c.sum {
			continue
		}
		f.sum = c.sum
		objs, err := []*Object(nil), c.err
		if err == nil {
			objs, err = Parse(name, c.data)
		}
		if f.err = err; err == nil {
			f.objs = objs
		}
	}
	for _, f := range d.files {
		blind = blind || f.err != nil && f.objs == nil
	}
	if !blind {
		// What went away may be what a file that cannot be read holds now: a policy that
		// is moved and mistyped at once must not open anything.
		maps.DeleteFunc(d.files, func(name string, _ *file) bool { _, ok := content[name]; return !ok })
	}
	return true, d.fill()
}

// fill brings the store up to the files. Of one object in two files the first, by
// name of the file, stands.
func (d *Dir) fill() error {
	var errs []error
	var problems []config.Problem
	keys := map[Key]bool{}
	for _, name := range slices.Sorted(maps.Keys(d.files)) {
		f := d.files[name]
		if f.err != nil {
			what := "its last good version serves"
			if f.objs == nil {
				what = "nothing of it is applied, and what other files held before stays"
			}
			errs = append(errs, f.err)
			problems = append(problems, config.Problem{
				Severity: config.Error, Kind: "File", Name: name, Source: name, Reason: "Unreadable",
				Message: fmt.Sprintf("%v; %s", f.err, what),
			})
		}
		for _, o := range f.objs {
			if keys[o.Key] {
				problems = append(problems, config.Problem{
					Severity: config.Error, Kind: o.Kind, Namespace: o.Namespace, Name: o.Name, Source: o.Source, Reason: "Duplicate",
					Message: "the object stands elsewhere already (" + d.objs.source(o.Key) + "), which is used",
				})
				continue
			}
			keys[o.Key] = true
			d.objs.Put(o)
		}
	}
	d.objs.Keep(keys)
	d.objs.extra = problems
	return errors.Join(errs...)
}

// WatchOptions are those of Watch.
type WatchOptions struct {
	// Ticks say when to look at the directory; nil: once a second. A change is
	// applied when two looks in a row see the same content.
	Ticks <-chan time.Time
	// Failed is told that the directory as a whole could not be read, which leaves
	// everything as it is; nil: nobody is.
	Failed func(error)
}

// Watch reads the directory, calls apply, and calls it again after each change,
// until ctx ends. apply gets the same store each time and may use it until it
// returns. At the start a file that cannot be read is an error: without a last good
// version of the policies in it, serving would open what they guard. Later such a
// file keeps its last good objects.
func Watch(ctx context.Context, path string, o WatchOptions, apply func(*Objects)) error {
	d := NewDir(path)
	if _, err := d.Load(); err != nil {
		return err
	}
	apply(d.objs)
	if o.Ticks == nil {
		t := time.NewTicker(time.Second)
		defer t.Stop()
		o.Ticks = t.C
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-o.Ticks:
		}
		changed, err := d.Settled()
		if changed {
			apply(d.objs)
		} else if err != nil && o.Failed != nil {
			o.Failed(err)
		}
	}
}
