package main

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"callbackd/internal/store/storetest"
	"callbackd/migrations"
)

// TestMigrate: each run says what it has done.
func TestMigrate(t *testing.T) {
	files, err := fs.Glob(migrations.FS, "*.up.sql")
	if err != nil {
		t.Fatal(err)
	}
	var applied, undone []string
	for n, file := range files {
		step := fmt.Sprintf("%d %s\n", n+1, strings.TrimSuffix(file[len("000000_"):], ".up.sql"))
		applied, undone = append(applied, "applied "+step), append(undone, "undone "+step)
	}
	slices.Reverse(undone)
	last := len(files)
	environ := []string{"DATABASE_URL=" + storetest.NewDatabase(t)}
	for _, test := range []struct{ args, want string }{
		{"up", strings.Join(applied, "") + fmt.Sprintf("from version 0 to version %d\n", last)},
		{"up", fmt.Sprintf("already at version %d\n", last)},
		{"down 2", strings.Join(undone[:2], "") + fmt.Sprintf("from version %d to version %d\n", last, last-2)},
		{"force 3", fmt.Sprintf("from version %d to version 3\n", last-2)},
		{"force 3", "already at version 3\n"},
		{"version", fmt.Sprintf("schema 3, needed %d\n", last)},
	} {
		got := callbackd(t, environ, append([]string{"migrate"}, strings.Fields(test.args)...)...)
		if diff := cmp.Diff(result{0, test.want, ""}, got); diff != "" {
			t.Errorf("migrate %s: %s", test.args, diff)
		}
	}
}
