package config

import (
	"strings"
	"testing"

	"callbackd/internal/doctest"
)

// TestDocs: the table in docs/settings.md is Variables, row by row.
func TestDocs(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString("| variable | default | meaning |\n|---|---|---|\n")
	for _, v := range Variables() {
		byDefault := v.Default
		if v.Required != "" {
			byDefault = strings.TrimSuffix("required "+v.Required, " always")
		}
		b.WriteString(doctest.Row(v.Name, byDefault, v.Meaning))
	}
	doctest.Section(t, "../../docs/settings.md", "settings", b.String())
}
