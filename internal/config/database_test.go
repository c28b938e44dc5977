package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestShowDatabase: what an operator has to see of a DSN, and no secret.
func TestShowDatabase(t *testing.T) {
	passfile := filepath.Join(t.TempDir(), "pgpass")
	if err := os.WriteFile(passfile, []byte("*:*:*:*:SECRET\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PGUSER", "someone")
	for dsn, want := range map[string]string{
		"postgres://app:SECRET@db.example/callbackd":                                                            "host=db.example port=5432 dbname=callbackd user=app password=[redacted]",
		"postgres://app@one.example,two.example:5433/callbackd?target_session_attrs=read-write&sslmode=disable": "host=one.example,two.example port=5432,5433 dbname=callbackd user=app",
		"postgresql://app:SECRET@[2001:db8::1]:6432/callbackd?sslpassword=SECRET&options=-cx%3DSECRET":          "host=2001:db8::1 port=6432 dbname=callbackd user=app password=[redacted]",
		"postgres://h/d?user=app&password=SECRET":                                                               "host=h port=5432 dbname=d user=app password=[redacted]",
		"postgres://app:SEC%40RET@h/d":                                                                          "host=h port=5432 dbname=d user=app password=[redacted]",
		"host=one,two port=5433 dbname='two words' user=app password='SEC RET' pool_max_conns=4":                "host=one,two port=5433,5433 dbname='two words' user=app password=[redacted]",
		`host=/tmp user='o\'hara' dbname=d`:                                                                     `host=/tmp port=5432 dbname=d user='o\'hara'`,
		"host=h dbname=d passfile=" + passfile:                                                                  "host=h port=5432 dbname=d user=someone password=[redacted]",
		"postgres://h":                                                                                          "host=h port=5432 dbname='' user=someone",
		// A password that needs escapes and has none reads as something else.
		"postgres://app:12/SECRET@h/d":   redacted,
		"postgres://app:12?SECRET@h/d":   redacted,
		"postgres://app:12#SECRET@h/d":   redacted,
		"postgres://app:1@SEC/RET@h/d":   redacted,
		"postgres://app:SECRET@h:port/d": redacted,
		"SECRET":                         redacted,
	} {
		got := showDatabase(dsn)
		if got != want || strings.Contains(got, "SEC") {
			t.Errorf("%s is shown as\n%s\nwant\n%s", dsn, got, want)
		}
	}
}
