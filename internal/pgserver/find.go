package pgserver

import (
	"cmp"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// ErrNotFound says, in one line, that this machine has no PostgreSQL server
// programs and how to get them.
var ErrNotFound = errors.New("no PostgreSQL server programs (initdb, postgres, pg_ctl) found: " +
	"apt-get install postgresql, dnf install postgresql-server, brew install postgresql@17, " +
	"or set DATABASE_URL to a database that may be filled")

// programs are what a cluster needs, all in one directory.
var programs = []string{"initdb", "postgres", "pg_ctl"}

// places are where packages put the programs when they are not in PATH.
var places = []string{
	"usr/lib/postgresql/*/bin",         // Debian, Ubuntu
	"usr/pgsql-*/bin",                  // Red Hat, PGDG
	"usr/libexec/postgresql*",          // Alpine
	"opt/homebrew/opt/postgresql*/bin", // Homebrew, Apple silicon
	"usr/local/opt/postgresql*/bin",    // Homebrew, Intel
	"home/linuxbrew/.linuxbrew/opt/postgresql*/bin",
	"Applications/Postgres.app/Contents/Versions/*/bin",
	"opt/local/lib/postgresql*/bin", // MacPorts
	"usr/local/pgsql/bin",           // built from source
}

// Find returns the directory of the PostgreSQL server programs: the first in
// PATH, else what pg_config names, else the newest in the places where packages
// put them. Its error is ErrNotFound.
func Find() (string, error) {
	return find(os.Getenv("PATH"), "/")
}

func find(path, root string) (string, error) {
	inPath := filepath.SplitList(path)
	for _, dir := range inPath {
		if hasPrograms(dir) {
			return dir, nil
		}
	}
	for _, dir := range inPath {
		out, err := exec.Command(filepath.Join(dir, "pg_config"), "--bindir").Output() //nolint:gosec,noctx // the operator's own PATH; it only prints
		if bindir := strings.TrimSpace(string(out)); err == nil && hasPrograms(bindir) {
			return bindir, nil
		}
	}
	var found []string
	for _, place := range places {
		dirs, _ := filepath.Glob(filepath.Join(root, place)) // fails for a bad pattern only
		found = append(found, slices.DeleteFunc(dirs, func(dir string) bool { return !hasPrograms(dir) })...)
	}
	if len(found) == 0 {
		return "", ErrNotFound
	}
	return slices.MaxFunc(found, func(a, b string) int {
		return slices.CompareFunc(versionIn(a), versionIn(b), cmp.Compare[int])
	}), nil
}

func hasPrograms(dir string) bool {
	return filepath.IsAbs(dir) && !slices.ContainsFunc(programs, func(name string) bool {
		info, err := os.Stat(filepath.Join(dir, name))
		return err != nil || !info.Mode().IsRegular() || info.Mode()&0o111 == 0
	})
}

var number = regexp.MustCompile(`\d+`)

// versionIn returns the numbers in a directory's name and its parent's: 17 or 9.6.
func versionIn(dir string) []int {
	var version []int
	parent, last := filepath.Split(dir)
	for _, digits := range number.FindAllString(filepath.Base(parent)+"/"+last, -1) {
		n, _ := strconv.Atoi(digits) // digits that overflow are no version
		version = append(version, n)
	}
	return version
}
