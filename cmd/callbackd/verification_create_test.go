package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"callbackd/internal/callback"
	"callbackd/internal/store/storetest"
)

// expectation is what is stored of one that is expected.
type expectation struct {
	WorkflowExecutionID, AccountID, DataCenter, UserReference, DefinitionKey, State string
}

// expectations reads them all, and removes them.
func expectations(t *testing.T, dsn string) []expectation {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	rows, err := conn.Query(t.Context(), `SELECT workflow_execution_id, account_id, coalesce(data_center, ''), coalesce(user_reference, ''), coalesce(definition_key, ''), state
		FROM jumio.expectations ORDER BY 1`)
	if err != nil {
		t.Fatal(err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[expectation])
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// TestCreate: what is asked of Jumio, printed and expected.
func TestCreate(t *testing.T) {
	s := newStandIn(t, nil)
	s.api = answered(201, creation(s.URL))
	path := filepath.Join(t.TempDir(), "request.json")
	if err := os.WriteFile(path, []byte(`{"customerInternalReference":"r","workflowDefinition":{"key":3},"userReference":"u","userConsent":{"userIp":"192.0.2.1"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	signed, err := callback.SignUserReference("key", "u")
	if err != nil {
		t.Fatal(err)
	}
	const least = `"customerInternalReference":"r","workflowDefinition":{"key":3}`
	public := "CALLBACKD_PUBLIC_CALLBACK_URL=https://callbacks.example/MARK-path"
	whole := creation(s.URL) + "\n"
	for name, tt := range map[string]struct {
		environ []string
		args    string
		stdin   string
		request string
		stdout  string
		want    expectation
	}{
		"every flag": {
			args: "--data-center emea-1 --key 3 --customer-internal-reference r --user-reference u --credential ID:AUT,DEU:PASSPORT,ID_CARD --credential FACEMAP::JUMIO_STANDARD" +
				" --credential SELFIE --reporting-criteria <c> --callback-url https://h.example/MARK --token-lifetime 1d --success-url https://h.example/s --error-url https://h.example/e --locale de",
			request: `POST /api/v1/accounts {"callbackUrl":"https://h.example/MARK","customerInternalReference":"r","reportingCriteria":"<c>","tokenLifetime":"1d","userReference":"u",` +
				`"web":{"errorUrl":"https://h.example/e","locale":"de","successUrl":"https://h.example/s"},"workflowDefinition":{"credentials":[` +
				`{"category":"ID","country":{"values":["AUT","DEU"]},"type":{"values":["PASSPORT","ID_CARD"]}},{"category":"FACEMAP","type":{"values":["JUMIO_STANDARD"]}},{"category":"SELFIE"}],"key":3}}`,
			stdout: whole, want: expectation{"w1", "a1", "emea-1", "u", "3", "expected"},
		},
		"the environment's data center and callback URL, signed": {
			environ: []string{"JUMIO_DATA_CENTER=apac-1", public, "CALLBACKD_USER_REFERENCE_KEY=key"},
			args:    "--key 3 --customer-internal-reference r --user-reference u",
			request: `POST /api/v1/accounts {"callbackUrl":"https://callbacks.example/MARK-path",` + strings.Replace(least, `"workflow`, `"userReference":"`+signed+`","workflow`, 1) + `}`,
			stdout:  whole, want: expectation{"w1", "a1", "apac-1", signed, "3", "expected"},
		},
		"signed already": {
			environ: []string{"JUMIO_DATA_CENTER=apac-1", "CALLBACKD_USER_REFERENCE_KEY=key"},
			args:    "--data-center amer-1 --key 3 --customer-internal-reference r --user-reference " + signed,
			request: `POST /api/v1/accounts {` + strings.Replace(least, `"workflow`, `"userReference":"`+signed+`","workflow`, 1) + `}`,
			stdout:  whole, want: expectation{"w1", "a1", "amer-1", signed, "3", "expected"},
		},
		"an update": {
			environ: []string{"CALLBACKD_USER_REFERENCE_KEY=key"},
			args:    "--data-center amer-1 --account-id a1 --key 3 --customer-internal-reference r",
			request: `PUT /api/v1/accounts/a1 {` + least + `}`,
			stdout:  whole, want: expectation{"w1", "a1", "amer-1", "", "3", "expected"},
		},
		"a body from a file": {
			environ: []string{public, "CALLBACKD_USER_REFERENCE_KEY=key"},
			args:    "--data-center amer-1 --body " + path,
			request: `POST /api/v1/accounts {"callbackUrl":"https://callbacks.example/MARK-path","customerInternalReference":"r","userConsent":{"userIp":"192.0.2.1"},"userReference":"` + signed + `","workflowDefinition":{"key":3}}`,
			stdout:  whole, want: expectation{"w1", "a1", "amer-1", signed, "3", "expected"},
		},
		"a body from stdin, with its own callback URL": {
			environ: []string{public},
			args:    "--data-center amer-1 --account-id a2 --body -",
			stdin:   `{` + least + `,"callbackUrl":"https://h.example/own"}`,
			request: `PUT /api/v1/accounts/a2 {"callbackUrl":"https://h.example/own",` + least + `}`,
			stdout:  whole, want: expectation{"w1", "a1", "amer-1", "", "3", "expected"},
		},
		"the link alone": {
			args:    "--data-center amer-1 --key 3 --customer-internal-reference r --web",
			request: `POST /api/v1/accounts {` + least + `}`,
			stdout:  "https://c.web.amer-1.jumio.ai/web/v4/app?authorizationToken=MARK-web\n", want: expectation{"w1", "a1", "amer-1", "", "3", "expected"},
		},
		"the SDK's token alone": {
			args:    "--data-center amer-1 --key 3 --customer-internal-reference r --sdk",
			request: `POST /api/v1/accounts {` + least + `}`,
			stdout:  "MARK-sdk\n", want: expectation{"w1", "a1", "amer-1", "", "3", "expected"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			dsn := storetest.NewMigrated(t)
			var stdout, stderr bytes.Buffer
			p := &process{s.environ(append(tt.environ, "DATABASE_URL="+dsn)...), strings.NewReader(tt.stdin), &stdout, &stderr}
			code := p.run(t.Context(), append([]string{"verification", "create"}, strings.Fields(tt.args)...))
			if diff := cmp.Diff(result{0, tt.stdout, ""}, result{code, stdout.String(), stderr.String()}); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff([]string{tt.request}, s.requests()); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff([]expectation{tt.want}, expectations(t, dsn)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestCreateUsage: what is wrong is told a line each, with exit code 2, before the
// database or Jumio is asked, whatever the settings are.
func TestCreateUsage(t *testing.T) {
	s := newStandIn(t, answered(500, ""))
	text := strings.Repeat("x", 101)
	least := []string{"--data-center", "amer-1", "--key", "2", "--customer-internal-reference", "r"}
	for name, tt := range map[string]struct {
		environ []string
		args    []string
		want    []string // lines, without their beginning
	}{
		"nothing": {nil, nil, []string{"missing data center, want --data-center or JUMIO_DATA_CENTER", "customerInternalReference is missing", "workflowDefinition.key is missing"}},
		"several limits": {nil, append(least, "--customer-internal-reference", text, "--user-reference", text, "--locale", "xx", "--token-lifetime", "1s", "--account-id", "a/b"), []string{
			"customerInternalReference has 101 characters, at most 100 are allowed", "userReference has 101 characters, at most 100 are allowed",
			"tokenLifetime is not from 5m to 60d", `web.locale is "xx", not one of ar, bg,*`, `--account-id: "a/b" is not an account id`,
		}},
		"too long for a signature": {[]string{"CALLBACKD_USER_REFERENCE_KEY=key"}, append(least, "--user-reference", strings.Repeat("x", 78)), []string{"sign userReference: it has 78 characters, at most 77 are allowed"}},
		"no reference to sign":     {[]string{"CALLBACKD_USER_REFERENCE_KEY=key"}, least, []string{"userReference is missing; with CALLBACKD_USER_REFERENCE_KEY, callbacks without a signed one are refused"}},
		"an unknown data center":   {nil, append(least, "--data-center", "us"), []string{`--data-center: "us" is none of amer-1, emea-1, apac-1`}},
		"web and SDK":              {nil, append(least, "--web", "--sdk"), []string{"--web goes without --sdk; see `callbackd verification create --help`"}},
		"a body and a parameter":   {nil, []string{"--body", "-", "--locale", "de"}, []string{"--locale goes without --body; see `callbackd verification create --help`"}},
		"a body that is none":      {nil, []string{"--body", "-"}, []string{"--body: not a JSON object in UTF-8; see `callbackd verification create --help`"}},
		"a key that is none":       {nil, []string{"--key", "two"}, []string{"invalid argument \"two\" for \"--key\" flag: want a whole number such as 3; see `callbackd verification create --help`"}},
		"an account that is empty": {nil, append(least, "--account-id="), []string{`--account-id: "" is not an account id`}},
		"a credential too much":    {nil, []string{"--credential", "ID:AUT:PASSPORT:X"}, []string{"invalid argument \"ID:AUT:PASSPORT:X\" for \"--credential\" flag: want CATEGORY[:COUNTRY,...[:TYPE,...]]*"}},
		"a credential's category":  {nil, append(least, "--credential", "id"), []string{`workflowDefinition.credentials[0].category is "id", not one of ID, FACEMAP, DOCUMENT, SELFIE`}},
		"no UTF-8":                 {nil, append(least, "--user-reference", "\xff"), []string{"--user-reference: it is not valid UTF-8*"}},
		"an argument":              {nil, append(least, "x"), []string{"unexpected argument \"x\"*"}},
	} {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			p := &process{s.environ(tt.environ...), strings.NewReader("secret"), &stdout, &stderr}
			code := p.run(t.Context(), append([]string{"verification", "create"}, tt.args...))
			lines := strings.Split(strings.TrimSuffix(stderr.String(), "\n"), "\n")
			if code != 2 || stdout.Len() != 0 || len(lines) != len(tt.want) {
				t.Fatalf("exit code %d, %s%s", code, &stdout, &stderr)
			}
			for i, want := range tt.want {
				want, open := strings.CutSuffix("callbackd: create: "+want, "*")
				if lines[i] != want && (!open || !strings.HasPrefix(lines[i], want)) {
					t.Errorf("got %q, want %q", lines[i], want)
				}
			}
		})
	}
	if seen := s.requests(); seen != nil {
		t.Errorf("Jumio was asked: %q", seen)
	}
	got := callbackd(t, nil, append([]string{"verification", "create"}, least...)...)
	if got.Code != 1 || strings.Count(got.Stderr, "\n") != 4 || !strings.Contains(got.Stderr, "DATABASE_URL is missing") {
		t.Errorf("without settings: %+v", got)
	}
}

// TestCreateFails: 1 if nothing was started, 3 if that is not known, 4 if it was, but not
// all could be done. Jumio is asked at most once, and not without a database.
func TestCreateFails(t *testing.T) {
	dsn := storetest.NewMigrated(t)
	good := []string{"DATABASE_URL=" + dsn}
	noWorkflow := `{"account":{"id":"a1"},"sdk":{"token":"MARK-sdk"}}`
	plain := `{"account":{"id":"a1"},"workflowExecution":{"id":"w2"}}`
	unknown := "it is not known whether Jumio has started the verification, look there before you start it again: "
	drop := func(w http.ResponseWriter, r *http.Request) { // the database fails after it was asked
		conn, err := pgx.Connect(r.Context(), dsn)
		if err == nil {
			_, err = conn.Exec(r.Context(), "ALTER FUNCTION jumio.expect RENAME TO expect_no_more")
			_ = conn.Close(r.Context())
		}
		if err != nil {
			t.Error(err)
		}
		answered(200, plain)(w, r)
	}
	for _, tt := range []struct {
		name     string
		api      http.HandlerFunc
		environ  []string
		args     []string
		want     result // the line without its beginning; * at its end for any more
		requests int
	}{
		{"400", answered(400, "MARK"), good, nil, result{1, "", "bad_request: account answered 400"}, 1},
		{"429", answered(429, "MARK"), good, nil, result{1, "", "rate_limited: account answered 429"}, 1},
		{"no token", nil, append(good, "JUMIO_TOKEN_URL=http://127.0.0.1:1"), nil, result{1, "", "token_connection_failed: token: *"}, 0},
		{"refused connection", nil, append(good, "JUMIO_ACCOUNT_URL=http://127.0.0.1:1"), nil, result{1, "", "connection_failed: account: *"}, 0},
		{"no credentials there", nil, append(good, "JUMIO_CLIENT_ID=", "JUMIO_CLIENT_SECRET=", "JUMIO_CLIENT_ID_EMEA_1=i", "JUMIO_CLIENT_SECRET_EMEA_1=s"), nil, result{1, "", "no_data_center: account: there are no credentials for data center amer-1"}, 0},
		{"no database", nil, []string{"DATABASE_URL=postgres://127.0.0.1:1/x"}, nil, result{1, "", "*"}, 0},
		{"no schema", nil, []string{"DATABASE_URL=" + storetest.NewDatabase(t)}, nil, result{1, "", "the schema's version is 0*"}, 0},
		{"500", answered(500, "MARK"), good, nil, result{3, "", unknown + "server_error: account answered 500"}, 1},
		{"no answer", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, good, nil, result{3, "", unknown + "connection_failed: account: EOF"}, 1},
		{"no workflow execution", answered(200, noWorkflow), good, []string{"--web"}, result{3, noWorkflow + "\n", unknown + "no_workflow_execution: account: the answer names no workflow execution"}, 1},
		{"half an answer", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			_, _ = io.WriteString(w, `{"account":`)
			_ = http.NewResponseController(w).Flush() // otherwise nothing is sent
			panic(http.ErrAbortHandler)
		}, good, nil, result{3, "{\"account\":\n", unknown + "connection_failed: account: unexpected EOF"}, 1},
		{"no link", answered(200, plain), good, []string{"--web"}, result{4, plain + "\n", "workflow execution w2 is started, but Jumio's answer has no web.href"}, 1},
		{"no token for the SDK", answered(200, plain), good, []string{"--sdk"}, result{4, plain + "\n", "workflow execution w2 is started, but Jumio's answer has no sdk.token"}, 1},
		{"the database fails afterwards", drop, good, nil, result{4, plain + "\n", "workflow execution w2 of account a1 is started in amer-1, but not expected, call jumio.expect for it: *"}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newStandIn(t, tt.api)
			args := append([]string{"verification", "create", "--data-center", "amer-1", "--key", "2", "--customer-internal-reference", "MARK"}, tt.args...)
			got := callbackd(t, s.environ(tt.environ...), args...)
			line, open := strings.CutSuffix("callbackd: "+tt.want.Stderr, "*")
			if open && strings.HasPrefix(got.Stderr, line) && strings.Count(got.Stderr, "\n") == 1 {
				tt.want.Stderr = got.Stderr
			} else {
				tt.want.Stderr = line + "\n"
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
			if strings.Contains(got.Stderr, "MARK") {
				t.Error("a secret or a reference shows")
			}
			if n := len(s.requests()); n != tt.requests {
				t.Errorf("%d requests, want %d", n, tt.requests)
			}
		})
	}
	if diff := cmp.Diff([]expectation{{"w2", "a1", "amer-1", "", "2", "expected"}}, expectations(t, dsn)); diff != "" {
		t.Error(diff)
	}
}

// TestCreateInterrupted: Ctrl-C while Jumio works leaves it open.
func TestCreateInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := newStandIn(t, func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	})
	var stdout, stderr bytes.Buffer
	code := run(ctx, []string{"verification", "create", "--data-center", "amer-1", "--key", "2", "--customer-internal-reference", "r"},
		s.environ("DATABASE_URL="+storetest.NewMigrated(t)), &stdout, &stderr)
	if code != 3 || stdout.Len() != 0 || !strings.Contains(stderr.String(), "it is not known whether") {
		t.Errorf("exit code %d, %s%s", code, &stdout, &stderr)
	}
}

// A credential on the command line is JSON by the guide, or an error.
func FuzzParseCredential(f *testing.F) {
	for _, seed := range []string{"ID", "ID:AUT,DEU:PASSPORT", "FACEMAP::JUMIO_STANDARD", "ID:", "ID::", ":", "ID:AUT:", "ID:,:X", "a:b:c:d"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		credential, err := parseCredential(text)
		if err != nil {
			return
		}
		values := func(name string) string {
			object, _ := credential[name].(map[string]any)
			list, _ := object["values"].([]string)
			for _, value := range list {
				if value == "" {
					t.Errorf("an empty %s", name)
				}
			}
			return strings.Join(list, ",")
		}
		again := fmt.Sprint(credential["category"], ":", values("country"), ":", values("type"))
		if strings.TrimRight(again, ":") != strings.TrimRight(text, ":") {
			t.Errorf("%q is %q", text, again)
		}
		if _, err := json.Marshal(credential); err != nil {
			t.Error(err)
		}
	})
}
