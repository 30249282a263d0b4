package house

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// eachDoc calls f with every Markdown file, by its path from the root.
func eachDoc(t *testing.T, f func(path, text string)) {
	t.Helper()
	n := 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && skipped[d.Name()] {
			return filepath.SkipDir
		}
		if strings.HasSuffix(path, ".md") {
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			rel, err := filepath.Rel(root, path)
			if err != nil {
				return err
			}
			n++
			f(filepath.ToSlash(rel), string(b))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if n < 20 {
		t.Fatalf("found %d documents: is the root right?", n)
	}
}

var (
	fenced  = regexp.MustCompile("(?ms)^```.*?^```[ \t]*$")
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ +(.*)$`)
	notSlug = regexp.MustCompile(`[^\p{L}\p{N}_ -]`)
	// A path of this repository, as prose and comments write it.
	docPath = regexp.MustCompile(`\b(?:(?:admin|agent|authz|cmd|config|conformance|controller|deploy|docs|examples|hbone|identity|internal|proxy|resilience|routing|telemetry|xds)(?:/[\w.-]+)+\.(?:go|md|yaml|yml|pgo)|(?:README|CONTRIBUTING)\.md)\b`)
	goTest  = regexp.MustCompile("`((?:Test|Benchmark|Fuzz)[A-Z]\\w*)`")
	target  = regexp.MustCompile("(?m)(?:`|^    )(?:[A-Z]+=\\S+ )?make ([a-z][a-z0-9-]*)")
)

// anchors are the names that a Markdown file's headings can be linked by.
func anchors(text string) map[string]bool {
	out := map[string]bool{}
	for _, m := range heading.FindAllStringSubmatch(fenced.ReplaceAllString(text, ""), -1) {
		out[strings.ReplaceAll(notSlug.ReplaceAllString(strings.ToLower(m[1]), ""), " ", "-")] = true
	}
	return out
}

// TestLinks follows the links between documents, and to headings in them.
func TestLinks(t *testing.T) {
	docs := map[string]string{}
	eachDoc(t, func(path, text string) { docs[path] = text })
	for path, text := range docs {
		for _, m := range link.FindAllStringSubmatch(fenced.ReplaceAllString(text, ""), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			file, anchor, _ := strings.Cut(m[1], "#")
			to := path
			if file != "" {
				to = filepath.ToSlash(filepath.Join(filepath.Dir(path), file))
			}
			if _, err := os.Stat(filepath.Join(root, to)); err != nil {
				t.Errorf("%s links to %s, which is not there", path, m[1])
			} else if anchor != "" && !anchors(docs[to])[anchor] {
				t.Errorf("%s links to %s, and %s has no such heading", path, m[1], to)
			}
		}
	}
}

// TestWhatDocsName looks for the files, tests and make targets that documents name,
// and for the files that comments do.
func TestWhatDocsName(t *testing.T) {
	makefile, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]bool{}
	named := regexp.MustCompile(`(?m)^func ((?:Test|Benchmark|Fuzz)[A-Z]\w*)\(`)
	there := func(path, text string) {
		for _, p := range docPath.FindAllString(text, -1) {
			_, err := os.Stat(filepath.Join(root, p))
			if _, beside := os.Stat(filepath.Join(root, filepath.Dir(path), p)); err != nil && beside != nil {
				t.Errorf("%s names %s, which is not there", path, p)
			}
		}
	}
	comment := regexp.MustCompile(`(?m)^\s*//.*$`)
	eachFile(t, func(path string, src []byte) {
		for _, m := range named.FindAllSubmatch(src, -1) {
			tests[string(m[1])] = true
		}
		rel, _ := filepath.Rel(root, path)
		there(filepath.ToSlash(rel), strings.Join(comment.FindAllString(string(src), -1), "\n"))
	})
	eachDoc(t, func(path, text string) {
		there(path, text)
		for _, m := range goTest.FindAllStringSubmatch(text, -1) {
			if !tests[m[1]] {
				t.Errorf("%s names %s, which is not there", path, m[1])
			}
		}
		for _, m := range target.FindAllStringSubmatch(text, -1) {
			if !strings.Contains(string(makefile), "\n"+m[1]+":") {
				t.Errorf("%s names make %s, which is not there", path, m[1])
			}
		}
	})
}

// TestDocsNameEveryMetric wants each metric of ours in a document: what nobody can
// look up nobody watches.
func TestDocsNameEveryMetric(t *testing.T) {
	var docs strings.Builder
	eachDoc(t, func(_, text string) { docs.WriteString(text) })
	metric := regexp.MustCompile(`"((?:waypoint|istio)_[a-z_]+_(?:total|active|seconds|connected|milliseconds|bytes|errors|objects|refused|pending|streams|waypoints|concerns|topics|synced|leader|gateways))"`)
	found := map[string]bool{}
	eachFile(t, func(path string, src []byte) {
		if strings.HasSuffix(path, "_test.go") {
			return
		}
		for _, m := range metric.FindAllSubmatch(src, -1) {
			found[string(m[1])] = true
		}
	})
	if len(found) < 40 {
		t.Fatalf("found %d metrics: is the pattern right?", len(found))
	}
	for m := range found {
		if !regexp.MustCompile("`" + m + "[`{]").MatchString(docs.String()) {
			t.Errorf("no document says what %s is", m)
		}
	}
}
