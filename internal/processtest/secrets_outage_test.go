package processtest

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// TestSecretsStayOutWithoutPostgres: with Postgres away, going away under a
// retrieval, or refusing the password, no secret is in a log, an answer, a
// metric or a command's error.
func TestSecretsStayOutWithoutPostgres(t *testing.T) {
	t.Parallel()
	const (
		path     = "/jumio/marked-path-Nc6Qd"
		key      = "marked-key-Ge1Lu"
		secret   = "marked-password-Ha4Ro"
		bodyMark = "marked-body-Iw9Pm"
	)
	postgres := newOutage(t)
	db := open(t, postgres.dsn)
	if _, err := db.pool.Exec(t.Context(), `CREATE ROLE marked LOGIN SUPERUSER PASSWORD '`+secret+`'`); err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(postgres.dsn)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword("marked", secret)
	dsn := u.String()
	jumio := startSandbox(t, "--fast-images")
	environ := append(retrieving(dsn, jumio), "CALLBACKD_CALLBACK_PATH="+path, "CALLBACKD_USER_REFERENCE_KEY="+key,
		"CALLBACKD_LOG_LEVEL=debug", "CALLBACKD_STORE_TIMEOUT=500ms", "CALLBACKD_MAX_BODY_BYTES=10000")
	succeed(t, environ, "migrate", "up")
	s := serve(t, environ)
	signed := strings.TrimSpace(succeed(t, environ, "sign", "marked-reference-Bf7Kx"))
	// Its image keeps the retrieval running until Postgres is down.
	id := jumio.sendOne(journeys{Kind: "passed-passport", UserReference: signed, CallbackURL: s.callbackURL(), Faults: []string{"image:slow:3"}})
	eventually(t, patience, func() error {
		if n := jumio.entry(id).DetailsRequests.OK; n == 0 {
			return errors.New("the retrieval has not begun")
		}
		return nil
	})
	postgres.begin()
	eventually(t, patience, func() error { return wantReady(s, http.StatusServiceUnavailable) })

	body := `{"userReference":"` + signed + `","workflowExecution":{"id":"w","status":"` + bodyMark + `"}}`
	outputs := map[string]string{
		"answer to a callback": shown(t, s.post(t, jumioAddress, "application/json", body).wantCode(t, http.StatusServiceUnavailable)),
	}
	for name, a := range rejections(t, s, bodyMark) {
		outputs["answer to "+name] = shown(t, a)
	}
	for _, base := range []string{s.callback, s.admin} {
		a, err := get(base + "/readyz")
		if err != nil {
			t.Fatal(err)
		}
		outputs["GET "+base+"/readyz"] = shown(t, a)
	}
	outputs["metrics"] = s.metricsText(t)
	for _, command := range []string{"serve", "migrate up", "rejected list", "refetch w"} {
		outputs["callbackd "+command] = fails(t, environ, strings.Fields(command)...)
	}
	// Its exit code may be 1: the queue spends long on recording finished jobs.
	s.signal(terminate)
	s.wait()
	outputs["log"] = s.stderr.String() + s.stdout.String()
	wantNoSecrets(t, outputs, map[string]string{
		"callback path": path[len("/jumio/"):], "userReference key": key, "database password": secret, "callback body": bodyMark,
		"userReference": signed, "client secret": sandboxSecret, "token": token(t, jumio),
	})
}
