package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
	"github.com/google/go-cmp/cmp"
)

// TestMisspelt: an unknown name is refused with the one that was probably
// meant, and its value is never shown.
func TestMisspelt(t *testing.T) {
	for name, want := range map[string]string{
		"CALLBACKD_LISTN":                    "CALLBACKD_LISTN is unknown, did you mean CALLBACKD_LISTEN?",
		"CALLBACKD_TRUSTED_PROXY":            "CALLBACKD_TRUSTED_PROXY is unknown, did you mean CALLBACKD_TRUSTED_PROXIES?",
		"CALLBACKD_USER_REFERENCE_KEYS_FILE": "CALLBACKD_USER_REFERENCE_KEYS is unknown, did you mean CALLBACKD_USER_REFERENCE_KEY?",
		"CALLBACKD_DATABASE_URL":             "CALLBACKD_DATABASE_URL is unknown, did you mean DATABASE_URL?",
		"CALLBACKD_JUMIO_CLIENT_ID":          "CALLBACKD_JUMIO_CLIENT_ID is unknown, did you mean JUMIO_CLIENT_ID?",
		"CALLBACKD_PORT":                     "CALLBACKD_PORT is unknown, want a name that `callbackd serve --help` lists",
		"CALLBACKD_BANANA":                   "CALLBACKD_BANANA is unknown, want a name that `callbackd serve --help` lists",
		"JUMIO_RETRIVAL_URL":                 "JUMIO_RETRIVAL_URL is unknown, did you mean JUMIO_RETRIEVAL_URL?",
		"JUMIO_CLIENT_ID_amer-1":             "JUMIO_CLIENT_ID_amer-1 is unknown, want the data center in upper case, such as JUMIO_CLIENT_ID_AMER_1",
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff([]string{want}, lines(t, with(name+"=hunter4"))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestFile: every variable works with the suffix _FILE.
func TestFile(t *testing.T) {
	dir := t.TempDir()
	values := map[string]string{}
	var environ []string
	put := func(name, value string) {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(value+"\r\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		environ = append(environ, name+"_FILE="+path)
		values[name] = value
	}
	for _, v := range Variables() {
		put(v.Name, v.Default)
	}
	for _, assignment := range complete {
		name, value, _ := strings.Cut(assignment, "=")
		put(name, value)
	}
	put("CALLBACKD_TRUSTED_PROXIES", "10.0.0.0/8")
	put("CALLBACKD_ALLOWED_CIDRS", "192.0.2.1")
	put("CALLBACKD_DNS_SERVER", "10.0.0.2:53")
	put("CALLBACKD_SPOOL_DIR", "/var/spool/callbackd")
	put("CALLBACKD_USER_REFERENCE_KEY", "hunter5")
	put("JUMIO_TOKEN_URL", "https://a.example")
	put("JUMIO_RETRIEVAL_URL", "https://r.example")
	put("JUMIO_ACCOUNT_URL", "https://c.example")
	put("JUMIO_API_URL", "https://u.example")
	put("JUMIO_STATUS_URL", "https://s.example")
	put("JUMIO_DATA_CENTER", "emea-1")
	put("CALLBACKD_PUBLIC_CALLBACK_URL", "https://callbacks.example/hunter9")
	put("CALLBACKD_ERASURE_KEY", "hunter12")
	put("CALLBACKD_RETENTION", "images=6mo")
	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	put("CALLBACKD_IMAGE_STORE", "s3://images/of-callbackd")
	put("CALLBACKD_IMAGE_STORE_ACCESS_KEY", "hunter10")
	put("CALLBACKD_IMAGE_STORE_SECRET_KEY", "hunter11")
	put("CALLBACKD_IMAGE_RECIPIENTS", key.Recipient().String())
	put("CALLBACKD_IMAGE_IDENTITY", key.String())
	put("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318")
	put("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://collector:4318/in")
	put("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf")
	put("OTEL_EXPORTER_OTLP_HEADERS", "api-key=a")
	put("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "api-key=b")
	put("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "2000")
	put("OTEL_TRACES_SAMPLER_ARG", "0.5")
	put("OTEL_SERVICE_NAME", "kyc")
	put("OTEL_RESOURCE_ATTRIBUTES", "x=y")
	put("JUMIO_CLIENT_ID_AMER_1", "ia")
	put("JUMIO_CLIENT_SECRET_AMER_1", "sa")

	c, err := Load(environ)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range values {
		if c.values[name] != want {
			t.Errorf("%s_FILE: got %q, want %q", name, c.values[name], want)
		}
	}
	if c.DataCenters["amer-1"] != (Credentials{"ia", "sa"}) || c.UserReferenceKey != "hunter5" || c.TokenURL.Host != "a.example" {
		t.Errorf("values of files did not reach the settings: %+v", c.DataCenters)
	}
}

// TestWrongFile: both forms, files that are missing or empty; a secret's file
// is not named, since somebody may have put the secret itself there.
func TestWrongFile(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct{ assignment, want string }{
		"both":            {"DATABASE_URL_FILE=" + empty, "DATABASE_URL is set twice, also as DATABASE_URL_FILE, want only one"},
		"missing":         {"CALLBACKD_WORKERS_FILE=/nonexistent", `CALLBACKD_WORKERS cannot be read from the file that CALLBACKD_WORKERS_FILE names, "/nonexistent" (no such file or directory), want a readable file that holds a whole number from 0 to 1000`},
		"empty":           {"CALLBACKD_USER_REFERENCE_KEY_FILE=" + empty, "CALLBACKD_USER_REFERENCE_KEY cannot be read from the file that CALLBACKD_USER_REFERENCE_KEY_FILE names (it is empty), want a readable file that holds a key"},
		"secret not path": {"CALLBACKD_USER_REFERENCE_KEY_FILE=hunter6", "CALLBACKD_USER_REFERENCE_KEY cannot be read from the file that CALLBACKD_USER_REFERENCE_KEY_FILE names (no such file or directory), want a readable file that holds a key"},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff([]string{test.want}, lines(t, with(test.assignment))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestLookup: single variables, whatever else is missing or wrong.
func TestLookup(t *testing.T) {
	environ := []string{"CALLBACKD_WORKERS=none", "CALLBACKD_ADMIN_LISTEN=:1", "CALLBACKD_BANANA=1"}
	for name, test := range map[string]struct{ variable, want, wantErr string }{
		"set":     {"CALLBACKD_ADMIN_LISTEN", ":1", ""},
		"default": {"CALLBACKD_LISTEN", ":8080", ""},
		"unset":   {"DATABASE_URL", "", ""},
		"wrong":   {"CALLBACKD_WORKERS", "", `CALLBACKD_WORKERS is "none", want a whole number from 0 to 1000`},
		"unknown": {"CALLBACKD_BANANA", "", "config: unknown variable CALLBACKD_BANANA"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Lookup(environ, test.variable)
			var text string
			if err != nil {
				text = err.Error()
			}
			if got != test.want || text != test.wantErr {
				t.Errorf("Lookup = %q, %q; want %q, %q", got, text, test.want, test.wantErr)
			}
		})
	}
	if _, err := Require(environ, "DATABASE_URL"); err == nil || err.Error() != "DATABASE_URL is missing, want a Postgres DSN such as postgres://user@host/database" {
		t.Errorf("Require of a missing variable: %v", err)
	}
	if got, err := Require(environ, "CALLBACKD_ADMIN_LISTEN"); got != ":1" || err != nil {
		t.Errorf("Require = %q, %v", got, err)
	}
	if got, err := RetrievalDelays([]string{"CALLBACKD_RETRIEVAL_DELAYS=1s,2m"}); !cmp.Equal(got, seconds(1, 120)) || err != nil {
		t.Errorf("RetrievalDelays = %v, %v", got, err)
	}
	if _, err := RetrievalDelays([]string{"CALLBACKD_RETRIEVAL_DELAYS=soon"}); err == nil {
		t.Error("wrong delays were accepted")
	}
}
