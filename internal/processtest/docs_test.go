package processtest

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestDocs: docs/reliability.md says of each chaos test what it breaks.
func TestDocs(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("chaos_*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	tests, documented := map[string]bool{}, map[string]bool{}
	for _, file := range files {
		names(t, tests, file, `(?m)^func (TestChaos\w+)\(`)
	}
	names(t, documented, "../../docs/reliability.md", `(?m)^\|.*\x60(TestChaos\w+)`)
	if diff := cmp.Diff(tests, documented); diff != "" || len(tests) == 0 {
		t.Errorf("the table of faults differs from the tests (-want +got):\n%s", diff)
	}
}

// names adds what the pattern's group matches in the file.
func names(t *testing.T, into map[string]bool, file, pattern string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, match := range regexp.MustCompile(pattern).FindAllSubmatch(text, -1) {
		into[string(match[1])] = true
	}
}
