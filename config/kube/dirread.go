package kube

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// maxFile bounds one manifest: far above what a directory needs, far below what
// would hurt the process.
const maxFile = 64 << 20

// content is one manifest as it was read.
type content struct {
	data []byte
	sum  [sha256.Size]byte // of the data, or of the error
	err  error             // why there is no data
}

// reader reads the manifests below a directory.
type reader struct {
	files map[string]content // by path relative to the directory
	seen  map[string]bool    // real paths of the directories read
	sums  []byte
}

// readDir returns the content of all manifests, by name, with a hash of it all.
// Symbolic links are followed, to directories as well: those of a mounted ConfigMap
// are both.
func readDir(path string) (map[string]content, [sha256.Size]byte, error) {
	r := &reader{files: map[string]content{}, seen: map[string]bool{}}
	err := r.dir(path, "")
	return r.files, sha256.Sum256(r.sums), err
}

func (r *reader) dir(path, name string) error {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	if r.seen[real] {
		return nil // a link to what was read already, or to where it stands
	}
	r.seen[real] = true
	entries, err := os.ReadDir(real)
	if err != nil {
		return err
	}
	for _, e := range entries {
		switch n := e.Name(); {
		case strings.HasPrefix(n, "."):
			continue // "..data" of a ConfigMap, ".git"
		case n == "kustomization.yaml" || n == "kustomization.yml":
			continue // says how manifests are made, and is none
		}
		p, n := filepath.Join(real, e.Name()), filepath.Join(name, e.Name())
		st, err := os.Stat(p)
		switch {
		case err != nil:
			// It went away between listing and reading, or is a link to nothing.
			if errors.Is(err, fs.ErrPermission) {
				return err
			}
		case st.IsDir():
			if err := r.dir(p, n); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		case st.Mode().IsRegular():
			switch filepath.Ext(n) {
			case ".yaml", ".yml", ".json":
				r.file(p, n)
			}
		}
	}
	return nil
}

func (r *reader) file(path, name string) {
	c := content{}
	if c.data, c.err = readFile(path); errors.Is(c.err, fs.ErrNotExist) {
		return
	}
	c.sum = sha256.Sum256(c.data)
	if c.err != nil {
		c.err = fmt.Errorf("%s: %w", name, c.err)
		c.sum = sha256.Sum256([]byte(c.err.Error()))
	}
	r.files[name] = c
	r.sums = fmt.Appendf(r.sums, "%q", name)
	r.sums = append(r.sums, c.sum[:]...)
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		var cause *fs.PathError
		if errors.As(err, &cause) {
			return nil, cause.Err // the path in it is not the one that people know
		}
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(data) > maxFile {
		data, err = nil, fmt.Errorf("larger than %d bytes", maxFile)
	}
	return data, err
}
