package processtest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"callbackd/internal/store/storetest"
)

// TestWrongUsage: exit code 2, nothing on stdout, one line on stderr.
func TestWrongUsage(t *testing.T) {
	t.Parallel()
	for _, line := range []string{
		"", "server", "--unknown",
		"serve now", "serve --port=80", "migrate", "migrate sideways", "migrate up 1", "migrate down", "migrate down x", "migrate down 0",
		"migrate version 1", "migrate force", "migrate force 1 2", "sandbox now", "sandbox --journeys=x", "sandbox --journeys=-1",
		"sandbox --fault=nonsense", "demo now", "demo --unknown", "refetch", "rejected", "rejected look", "rejected list 1",
		"rejected list --limit=0", "rejected show", "rejected show 1", "rejected replay", "rejected replay x", "sign", "sign a b",
		"config all", "healthcheck now", "version now", "events", "events look", "events tail now", "events tail --type=nonsense",
		"events tail --from=yesterday", "events tail --from=9999-01-01T00:00:00Z", "events tail --consumer=", "events tail --consumer=a/b",
	} {
		t.Run(line, func(t *testing.T) {
			t.Parallel()
			r := callbackd(t, nil, strings.Fields(line)...)
			if r.Code != 2 || r.Stdout != "" || strings.Count(r.Stderr, "\n") != 1 || !strings.HasPrefix(r.Stderr, "callbackd: ") {
				t.Errorf("got %+v, want exit code 2 and one line on stderr", r)
			}
		})
	}
}

// TestHelp: every command answers --help and exits with 0.
func TestHelp(t *testing.T) {
	t.Parallel()
	for _, line := range []string{
		"", "serve", "migrate", "migrate up", "migrate down", "migrate version", "migrate force", "sandbox", "demo", "refetch",
		"rejected", "rejected list", "rejected show", "rejected replay", "events", "events tail", "sign", "config", "healthcheck", "version",
	} {
		t.Run(line, func(t *testing.T) {
			t.Parallel()
			if help := succeed(t, nil, append(strings.Fields(line), "--help")...); !strings.Contains(help, strings.TrimSpace("callbackd "+line)) {
				t.Errorf("the help is %q", help)
			}
		})
	}
}

// TestWrongConfiguration: exit code 1, and one line for each variable that is
// wrong or missing, all at once, none with a secret.
func TestWrongConfiguration(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		environ []string
		want    []string // variables in the order of their lines
	}{
		"nothing is set": {
			nil, []string{"DATABASE_URL", "JUMIO_CLIENT_ID", "JUMIO_CLIENT_SECRET", "JUMIO_USER_AGENT"},
		},
		"receive-only": {
			[]string{"CALLBACKD_WORKERS=0"}, []string{"DATABASE_URL"},
		},
		"wrong and missing": {
			[]string{
				"DATABASE_URL=marked-1", "CALLBACKD_LISTEN=here", "CALLBACKD_CALLBACK_PATH=marked-2", "CALLBACKD_TRUSTED_PROXIES=10.0.0.0/8,x",
				"CALLBACKD_WORKERS=many", "CALLBACKD_RETRIEVAL_DELAYS=0s,soon", "JUMIO_CLIENT_SECRET=marked-3", "JUMIO_AUTH=none", "CALLBACKD_UNKNOWN=1",
			},
			[]string{
				"DATABASE_URL", "CALLBACKD_LISTEN", "CALLBACKD_CALLBACK_PATH", "CALLBACKD_TRUSTED_PROXIES", "CALLBACKD_WORKERS",
				"CALLBACKD_RETRIEVAL_DELAYS", "JUMIO_CLIENT_ID", "JUMIO_AUTH", "JUMIO_USER_AGENT", "CALLBACKD_UNKNOWN",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, command := range []string{"serve", "config"} {
				r := callbackd(t, test.environ, command)
				var got []string
				for line := range strings.Lines(r.Stderr) {
					got = append(got, strings.Fields(line)[1])
				}
				if diff := cmp.Diff(test.want, got); r.Code != 1 || r.Stdout != "" || diff != "" {
					t.Errorf("%s: exit code %d, stdout %q, stderr\n%s%s", command, r.Code, r.Stdout, r.Stderr, diff)
				}
				if strings.Contains(r.Stderr, "marked") {
					t.Errorf("%s shows a secret: %s", command, r.Stderr)
				}
			}
		})
	}
}

// TestCommandsThatNeedTheDatabase fail in one line where it is missing, away,
// or empty.
func TestCommandsThatNeedTheDatabase(t *testing.T) {
	t.Parallel()
	const id = "00000000-0000-7000-8000-000000000000"
	const away = "postgres://callbackd@127.0.0.1:1/callbackd?sslmode=disable"
	empty := storetest.NewDatabase(t)
	for _, line := range []string{"refetch " + id, "rejected list", "rejected show " + id, "rejected replay " + id, "events tail", "events tail --consumer=c"} {
		t.Run(line, func(t *testing.T) {
			t.Parallel()
			for _, environ := range [][]string{nil, {"DATABASE_URL=" + away}, {"DATABASE_URL=" + empty}} {
				fails(t, environ, strings.Fields(line)...)
			}
		})
	}
	t.Run("migrate", func(t *testing.T) {
		t.Parallel()
		for _, line := range []string{"migrate up", "migrate down 1", "migrate version", "migrate force 1"} {
			fails(t, nil, strings.Fields(line)...)
			fails(t, []string{"DATABASE_URL=" + away}, strings.Fields(line)...)
		}
	})
}

// TestVariablesFromFiles: every variable works with _FILE.
func TestVariablesFromFiles(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "dsn")
	if err := os.WriteFile(file, []byte(storetest.NewDatabase(t)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	environ := []string{"DATABASE_URL_FILE=" + file}
	succeed(t, environ, "migrate", "up")
	serve(t, append(receiving(""), environ...))
}

// TestHealthcheck: 0 when the local instance is ready, else 1.
func TestHealthcheck(t *testing.T) {
	t.Parallel()
	s := serve(t, receiving(migrated(t)))
	environ := []string{"CALLBACKD_ADMIN_LISTEN=" + strings.TrimPrefix(s.admin, "http://")}
	succeed(t, environ, "healthcheck")
	s.stop(terminate)
	fails(t, environ, "healthcheck")
}

// TestVersion prints version, commit and Go version.
func TestVersion(t *testing.T) {
	t.Parallel()
	if lines := strings.Split(succeed(t, nil, "version"), "\n"); len(lines) != 4 || !strings.HasPrefix(lines[0], "callbackd ") ||
		!strings.HasPrefix(lines[1], "commit ") || !strings.HasPrefix(lines[2], "go1.") {
		t.Errorf("version prints %q", lines)
	}
}
