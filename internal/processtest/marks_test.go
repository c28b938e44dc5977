package processtest

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// marks are texts that occur nowhere but where a test has planted them, each once: the
// same beginning and a number. They are made of letters and digits, so that they can be
// in ids, too.
type marks struct {
	beginning string

	mu     sync.Mutex
	list   []mark
	hashes []hashMark
}

// mark is what a mark is planted in, and whose it is.
type mark struct{ owner, what string }

// hashMark is a SHA-256 that must not stay either.
type hashMark struct {
	mark
	sum []byte
}

// markDigits is the length of the number.
const markDigits = 5

func newMarks() *marks {
	random := make([]byte, 5)
	_, _ = rand.Read(random) // never fails
	return &marks{beginning: "Mk" + hex.EncodeToString(random)}
}

// plant returns a new mark.
func (m *marks) plant(owner, what string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.list = append(m.list, mark{owner, what})
	return fmt.Sprintf("%s%0*d", m.beginning, markDigits, len(m.list)-1)
}

// plantHash adds a hash.
func (m *marks) plantHash(owner, what string, sum []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hashes = append(m.hashes, hashMark{mark{owner, what}, sum})
}

// finds are the marks that a search has found, and where.
type finds map[mark][]string

func (f finds) add(m mark, where string) {
	if !slices.Contains(f[m], where) {
		f[m] = append(f[m], where)
	}
}

// of returns the marks of an owner.
func (f finds) of(owner string) (list []mark) {
	for m := range f {
		if m.owner == owner {
			list = append(list, m)
		}
	}
	return list
}

// look adds what is in b, as it is and in hexadecimal, in which Postgres prints a bytea.
func (m *marks) look(into finds, where string, b []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, form := range []func(string) string{
		func(s string) string { return s },
		func(s string) string { return hex.EncodeToString([]byte(s)) },
	} {
		beginning, length := []byte(form(m.beginning)), len(form(m.beginning+strings.Repeat("0", markDigits)))
		for rest := b; ; {
			at := bytes.Index(rest, beginning)
			if at < 0 || len(rest) < at+length {
				break
			}
			digits := rest[at+len(beginning) : at+length]
			if len(digits) == 2*markDigits {
				if decoded, err := hex.DecodeString(string(digits)); err == nil {
					digits = decoded
				}
			}
			if n, err := strconv.Atoi(string(digits)); err == nil && n < len(m.list) {
				into.add(m.list[n], where)
			}
			rest = rest[at+len(beginning):]
		}
	}
	for _, h := range m.hashes {
		if bytes.Contains(b, h.sum) || bytes.Contains(b, []byte(hex.EncodeToString(h.sum))) {
			into.add(h.mark, where)
		}
	}
}

// searchTables looks through every row of every table, as text: those of all schemas, the
// catalogs' included. It needs a superuser.
func (m *marks) searchTables(db *database) finds {
	db.t.Helper()
	found := finds{}
	for _, table := range db.texts(`SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
		WHERE c.relkind IN ('r', 'm') AND n.nspname <> 'pg_toast' ORDER BY 1`) {
		rows, err := db.pool.Query(db.t.Context(), `SELECT t::text FROM ONLY `+table+` AS t`)
		if err != nil {
			db.t.Fatalf("read %s: %v", table, err)
		}
		var row pgtype.DriverBytes
		var all []byte
		_, err = pgx.ForEachRow(rows, []any{&row}, func() error {
			all = append(append(all, row...), '\n')
			return nil
		})
		if err != nil {
			db.t.Fatalf("read %s: %v", table, err)
		}
		m.look(found, "table "+table, all) // at once: it goes through the text many times
	}
	return found
}

// searchFiles looks through all files below a directory, except below directories of the
// names without.
func (m *marks) searchFiles(t testing.TB, dir string, without ...string) finds {
	t.Helper()
	found := finds{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil // deleted meanwhile
		case err != nil:
			return err
		case d.IsDir() && slices.Contains(without, d.Name()):
			return filepath.SkipDir
		case !d.Type().IsRegular():
			return nil
		}
		content, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		m.look(found, "file "+strings.TrimPrefix(path, dir+"/"), content)
		return err
	})
	if err != nil {
		t.Fatalf("search the files: %v", err)
	}
	return found
}
