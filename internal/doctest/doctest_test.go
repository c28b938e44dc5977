package doctest

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// root is the repository's directory.
const root = "../.."

// TestLinks: every relative link in every page leads to a file that exists, and
// every anchor to a heading of it.
func TestLinks(t *testing.T) {
	t.Parallel()
	pages := 0
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && path != root && (strings.HasPrefix(entry.Name(), ".") || entry.Name() == "bin" || entry.Name() == "dist"):
			return filepath.SkipDir
		case filepath.Ext(path) != ".md":
			return nil
		}
		pages++
		for _, err := range brokenLinks(path) {
			t.Error(err)
		}
		return nil
	})
	if err != nil || pages < 10 {
		t.Fatalf("%d pages, %v", pages, err)
	}
}

// TestBrokenLinks: the check itself finds what it is for, and nothing else.
func TestBrokenLinks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	page := filepath.Join(dir, "page.md")
	for name, text := range map[string]string{
		"other.md": "# Some `code`, and more!\n## Twice\n## Twice\n```\n## not a heading\n```\n",
		"page.md": "# Here\n[ok](other.md), [ok](other.md#some-code-and-more), [ok](other.md#twice-1), [ok](#here),\n" +
			"![ok](.), [ok](https://example.com/none.md), `[code](none)`\n```\n[code](none)\n```\n" +
			"[1](none.md) [2](other.md#none) [3](#there) [4](other.md#not-a-heading) [5](other.md#twice-2)\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if broken := brokenLinks(page); len(broken) != 5 {
		t.Errorf("got %v, want the links 1 to 5", broken)
	}
}

var (
	fence    = regexp.MustCompile("(?ms)^ *```.*?^ *```")
	code     = regexp.MustCompile("`[^`\n]*`")
	link     = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading  = regexp.MustCompile(`(?m)^#+ +(.+?)\s*$`)
	unlinked = regexp.MustCompile(`[^\p{L}\p{N}_ -]`)
)

func brokenLinks(page string) (broken []error) {
	text, err := os.ReadFile(page)
	if err != nil {
		return []error{err}
	}
	text = code.ReplaceAll(fence.ReplaceAll(text, nil), nil)
	for _, match := range link.FindAllSubmatch(text, -1) {
		if err := follow(page, string(match[1])); err != nil {
			broken = append(broken, fmt.Errorf("%s: the link %s: %w", page, match[1], err))
		}
	}
	return broken
}

// follow fails unless target, as page names it, exists.
func follow(page, target string) error {
	u, err := url.Parse(target)
	if err != nil || u.Scheme != "" {
		return err
	}
	path := page
	if u.Path != "" {
		path = filepath.Join(filepath.Dir(page), filepath.FromSlash(u.Path))
	}
	if _, err := os.Stat(path); err != nil || u.Fragment == "" {
		return err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if !anchors(text)[u.Fragment] {
		return errors.New("no heading has that anchor")
	}
	return nil
}

// anchors are those that GitHub gives to a page's headings.
func anchors(text []byte) map[string]bool {
	all := map[string]bool{}
	for _, match := range heading.FindAllSubmatch(fence.ReplaceAll(text, nil), -1) {
		slug := string(bytes.ToLower(unlinked.ReplaceAll(match[1], nil)))
		slug = strings.ReplaceAll(slug, " ", "-")
		for i, first := 1, slug; all[slug]; i++ {
			slug = fmt.Sprintf("%s-%d", first, i)
		}
		all[slug] = true
	}
	return all
}
