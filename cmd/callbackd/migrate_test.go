package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"callbackd/internal/store/storetest"
)

// TestMigrate: each run says what it has done.
func TestMigrate(t *testing.T) {
	environ := []string{"DATABASE_URL=" + storetest.NewDatabase(t)}
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"up"}, "applied 1 river\napplied 2 river_unique_and_notifications\napplied 3 tables\napplied 4 views\n" +
			"applied 5 hostile_rows\napplied 6 bound_old_rows\nfrom version 0 to version 6\n"},
		{[]string{"up"}, "already at version 6\n"},
		{[]string{"down", "2"}, "undone 6 bound_old_rows\nundone 5 hostile_rows\nfrom version 6 to version 4\n"},
		{[]string{"force", "3"}, "from version 4 to version 3\n"},
		{[]string{"force", "3"}, "already at version 3\n"},
		{[]string{"version"}, "schema 3, needed 6\n"},
	} {
		if diff := cmp.Diff(result{0, test.want, ""}, callbackd(t, environ, append([]string{"migrate"}, test.args...)...)); diff != "" {
			t.Errorf("migrate %q: %s", test.args, diff)
		}
	}
}
