package config

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestREADMETable: the README's table of settings is Variables, row by row.
func TestREADMETable(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	const marker = "<!-- settings -->\n"
	parts := strings.Split(string(readme), marker)
	if len(parts) != 3 {
		t.Fatalf("README.md has %d lines %q, want 2 around the table", len(parts)-1, strings.TrimSpace(marker))
	}
	want := settingsTable()
	if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(parts[1], "\n")); diff != "" {
		t.Errorf("README.md differs from Variables (-want +got):\n%s\nThe table as it should be:\n%s", diff, want)
	}
}

// settingsTable is Variables as a table in Markdown.
func settingsTable() string {
	var b strings.Builder
	b.WriteString("| variable | default | meaning |\n|---|---|---|\n")
	for _, v := range Variables() {
		byDefault := v.Default
		switch v.Required {
		case "":
		case "always":
			byDefault = "required"
		default:
			byDefault = "required " + v.Required
		}
		cells := []string{v.Name, byDefault, v.Meaning}
		for i, cell := range cells {
			cells[i] = strings.ReplaceAll(cell, "|", `\|`)
		}
		b.WriteString("| " + strings.Join(cells, " | ") + " |\n")
	}
	return b.String()
}
