package pgserver

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// install puts fake programs into a directory below root.
func install(t *testing.T, root, dir string, names ...string) string {
	t.Helper()
	dir = filepath.Join(root, dir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestFindNothing(t *testing.T) {
	_, err := find("", t.TempDir())
	if !errors.Is(err, ErrNotFound) {
		t.Fatalf("error %v, want ErrNotFound", err)
	}
	for _, way := range []string{"apt-get install postgresql", "dnf install postgresql-server", "brew install postgresql@17", "DATABASE_URL"} {
		if !strings.Contains(err.Error(), way) {
			t.Errorf("%q does not name %q", err, way)
		}
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("%q is not one line", err)
	}
}

// TestFindPlaces covers where Debian, Red Hat, Homebrew and Postgres.app put the programs.
func TestFindPlaces(t *testing.T) {
	for _, place := range []string{
		"usr/lib/postgresql/17/bin",
		"usr/pgsql-16/bin",
		"usr/libexec/postgresql17",
		"opt/homebrew/opt/postgresql@17/bin",
		"usr/local/opt/postgresql@15/bin",
		"Applications/Postgres.app/Contents/Versions/17/bin",
		"usr/local/pgsql/bin",
	} {
		t.Run(place, func(t *testing.T) {
			root := t.TempDir()
			want := install(t, root, place, programs...)
			if got, err := find("", root); got != want || err != nil {
				t.Errorf("find = %q, %v; want %q", got, err, want)
			}
		})
	}
}

func TestFindOrder(t *testing.T) {
	root := t.TempDir()
	install(t, root, "usr/lib/postgresql/9.6/bin", programs...)
	install(t, root, "usr/lib/postgresql/18/bin", "postgres", "pg_ctl") // no initdb
	newest := install(t, root, "usr/lib/postgresql/16/bin", programs...)
	install(t, root, "usr/pgsql-15/bin", programs...)
	if got, err := find("", root); got != newest || err != nil {
		t.Errorf("newest: find = %q, %v; want %q", got, err, newest)
	}

	named := install(t, root, "opt/named/bin", programs...)
	config := install(t, root, "opt/config/bin")
	script := "#!/bin/sh\n[ \"$1\" = --bindir ] && echo " + named + "\n"
	if err := os.WriteFile(filepath.Join(config, "pg_config"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	if got, err := find(config, root); got != named || err != nil {
		t.Errorf("pg_config: find = %q, %v; want %q", got, err, named)
	}

	inPath := install(t, root, "opt/path/bin", programs...)
	path := config + string(os.PathListSeparator) + inPath
	if got, err := find(path, root); got != inPath || err != nil {
		t.Errorf("PATH: find = %q, %v; want %q", got, err, inPath)
	}
}
