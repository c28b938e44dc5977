// Package doctest keeps the documentation true. Section holds a generated part
// of a page to its source; the package's own tests check every link.
package doctest

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the generated parts of the documentation")

// Section fails the test unless the text between the two lines "<!-- name -->"
// of a Markdown file is want. With -update it writes want there instead.
func Section(t *testing.T, file, name, want string) {
	t.Helper()
	got, err := section(file, name)
	if err != nil {
		t.Fatal(err)
	}
	diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(got, "\n"))
	switch {
	case diff == "":
	case *update:
		if err := Write(file, name, want); err != nil {
			t.Fatal(err)
		}
	default:
		t.Errorf("%s is out of date, `make docs` rewrites it (-want +got):\n%s", file, diff)
	}
}

// Write replaces the text between the two lines "<!-- name -->" of a file.
func Write(file, name, text string) error {
	old, err := section(file, name)
	if err != nil {
		return err
	}
	page, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	mark := marker(name)
	return os.WriteFile(file, []byte(strings.Replace(string(page), mark+old+mark, mark+text+mark, 1)), 0o644) //nolint:gosec // a page, readable for all
}

func section(file, name string) (string, error) {
	page, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	parts := strings.Split(string(page), marker(name))
	if len(parts) != 3 {
		return "", fmt.Errorf("%s has %d lines %q, want 2", file, len(parts)-1, strings.TrimSpace(marker(name)))
	}
	return parts[1], nil
}

func marker(name string) string { return "<!-- " + name + " -->\n" }

// Row is a row of a Markdown table.
func Row(cells ...string) string {
	for i, cell := range cells {
		cells[i] = strings.ReplaceAll(cell, "|", `\|`)
	}
	return "| " + strings.Join(cells, " | ") + " |\n"
}
