package processtest

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/png"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"callbackd/internal/tracing/tracetest"
)

// The marks in what leakingJumio says and in what the test gives to callbackd.
const (
	markedAccess   = "marked-access-Qp3Vn"
	markedSDK      = "marked-sdk-Lw8Cz"
	markedAPI      = "marked-api-Rt5Hb"
	markedWeb      = "marked-web-Mj2Xk"
	markedError    = "marked-error-Zd7Gs" // in bodies of errors, and in what cannot be read
	markedStatus   = "MARKED_STATUS_FY4WU"
	markedHealth   = "MARKED_HEALTH_NB9QE"
	markedName     = "marked-name-Ka6Tv"
	markedDocument = "marked-document-Ch1Rj"
)

// leakingJumio is a Jumio with a mark in each token, error and field.
type leakingJumio struct {
	t   *testing.T
	url string

	mu         sync.Mutex
	references map[string]string // that a creation brought, by customerInternalReference
	asked      map[string]int
}

func startLeakingJumio(t *testing.T) *leakingJumio {
	t.Helper()
	j := &leakingJumio{t: t, references: map[string]string{}, asked: map[string]int{}}
	server := httptest.NewServer(http.HandlerFunc(j.serve))
	t.Cleanup(server.Close)
	j.url = server.URL
	return j
}

func (j *leakingJumio) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		j.t.Error(err)
	}
	w.Header().Set("X-Marked", markedError)
	id := r.URL.Path[strings.LastIndexByte(strings.TrimSuffix(r.URL.Path, "/status"), '/')+1:]
	switch {
	case r.URL.Path == "/oauth2/token":
		_, _ = io.WriteString(w, `{"access_token":"`+markedAccess+`","expires_in":3600,"token_type":"Bearer"}`)
	case r.URL.Path == "/":
		_, _ = io.WriteString(w, `{"status":"`+markedHealth+`","details":{"api":"`+markedHealth+`","retrieval":"UP"}}`)
	case r.Method == http.MethodPost && r.URL.Path == "/api/v1/accounts":
		j.create(w, body)
	case r.Method == http.MethodPost || r.Method == http.MethodPut: // uploads and finalizations, the first of each succeeds
		if j.nth(r.Method) > 1 {
			refuse(w, http.StatusForbidden)
		}
	case strings.HasSuffix(r.URL.Path, "/status"):
		j.status(w, strings.TrimSuffix(id, "/status"))
	default:
		_, _ = fmt.Fprintf(w, `{"workflow":{"id":%q,"status":"PROCESSED","userReference":%q,"customerInternalReference":"marked-order-good"},"account":{"id":"a1"},
			"capabilities":{"extraction":[{"data":{"firstName":%q,"documentNumber":%q}}]}}`, id, j.reference("marked-order-good"), markedName, markedDocument)
	}
}

func (j *leakingJumio) nth(what string) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.asked[what]++
	return j.asked[what]
}

func (j *leakingJumio) reference(order string) string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.references[order]
}

func refuse(w http.ResponseWriter, code int) {
	w.WriteHeader(code)
	_, _ = io.WriteString(w, `{"message":"`+markedError+`"}`)
}

// create answers by the order that it is for.
func (j *leakingJumio) create(w http.ResponseWriter, body []byte) {
	var wanted struct{ CustomerInternalReference, UserReference string }
	if err := json.Unmarshal(body, &wanted); err != nil {
		j.t.Error(err)
	}
	j.mu.Lock()
	j.references[wanted.CustomerInternalReference] = wanted.UserReference
	j.mu.Unlock()
	switch wanted.CustomerInternalReference {
	case "marked-order-refused":
		refuse(w, http.StatusBadRequest)
	case "marked-order-broken":
		refuse(w, http.StatusInternalServerError)
	default:
		at := j.url + "/api/v1/accounts/a1/workflow-executions/w1"
		_, _ = fmt.Fprintf(w, `{"account":{"id":"a1"},"web":{"href":"https://web.amer-1.jumio.ai/web?authorizationToken=%s"},"sdk":{"token":%q},
			"workflowExecution":{"id":"w1","credentials":[{"id":"c1","category":"ID","api":{"token":%q,"parts":{"front":"%s/credentials/c1/parts/FRONT"},
			"workflowExecution":%q}}]}}`, markedWeb, markedSDK, markedAPI, at, at)
	}
}

// status answers w1 with each kind of failure first, and never for silent.
func (j *leakingJumio) status(w http.ResponseWriter, id string) {
	say := func(status string) {
		_, _ = fmt.Fprintf(w, `{"account":{"id":"a1","name":%q},"workflowExecution":{"id":%q,"status":%q}}`, markedError, id, status)
	}
	switch n := j.nth(id); {
	case id == "silent" || id == "w1" && n == 1:
		refuse(w, http.StatusNotFound)
	case id == "broken" || id == "w1" && n == 2:
		refuse(w, http.StatusInternalServerError)
	case id == "w1" && n == 3:
		_, _ = io.WriteString(w, `{"`+markedError)
	case id == "w1" && n == 4:
		say(markedStatus)
	default:
		say("PROCESSED")
	}
}

// TestSecretsOfVerificationsStayOut: whatever Jumio answers to what starts a verification,
// uploads to it and asks for it, no token, error body, address of ours or reference shows in
// a log, a metric, a trace or a command's error, and no token is in any table.
func TestSecretsOfVerificationsStayOut(t *testing.T) {
	t.Parallel()
	const (
		key         = "marked-key-Dn5Yq"
		secret      = "marked-client-secret-Xu2Ma"
		reference   = "marked-reference-Bv8Lo"
		callbackURL = "https://marked-host.example/marked-path-Ge4Wi"
	)
	collector := tracetest.Start(t)
	jumio := startLeakingJumio(t)
	dsn := migrated(t)
	db := open(t, dsn)
	environ := append(retrieving(dsn, &jumioSandbox{url: jumio.url}), "CALLBACKD_RECEIVE=false", "CALLBACKD_LOG_LEVEL=debug",
		"JUMIO_CLIENT_SECRET="+secret, "JUMIO_DATA_CENTER=amer-1", "JUMIO_ACCOUNT_URL="+jumio.url, "JUMIO_API_URL="+jumio.url,
		"CALLBACKD_JUMIO_HEALTH_INTERVAL=1s", "CALLBACKD_RECONCILE_DELAYS=0s,0s,0s,0s,0s", "CALLBACKD_USER_REFERENCE_KEY="+key,
		"CALLBACKD_PUBLIC_CALLBACK_URL="+callbackURL, "OTEL_EXPORTER_OTLP_ENDPOINT="+collector.URL)
	worker := serve(t, environ)

	outputs := map[string]string{}
	run := func(code int, args ...string) string {
		t.Helper()
		r := callbackd(t, environ, args...)
		if r.Code != code {
			t.Errorf("callbackd %s: exit code %d, want %d: %s", strings.Join(args, " "), r.Code, code, r.Stderr)
		}
		outputs["commands' errors"] += r.Stderr
		return r.Stdout
	}
	create := func(code int, order string, more ...string) string {
		t.Helper()
		return run(code, append([]string{"verification", "create", "--key", "3", "--customer-internal-reference", order, "--user-reference", reference}, more...)...)
	}
	answer := writeFile(t, "answer.json", []byte(create(0, "marked-order-good")))
	create(1, "marked-order-refused")
	create(3, "marked-order-broken")
	create(2, "marked-order-good/", "--callback-url", "http://marked-host.example/marked-path-Ge4Wi")
	front := drawn(t)
	outputs["upload"] = run(0, "verification", "upload", answer, "FRONT="+front)
	run(1, "verification", "upload", answer, "FRONT="+front)
	outputs["finalize"] = run(0, "verification", "finalize", answer)
	run(1, "verification", "finalize", answer)
	run(1, "verification", "finalize", writeFile(t, "broken.json", []byte(markedAPI)))
	outputs["fetch"] = run(0, "verification", "fetch", "fetched")
	run(1, "verification", "fetch", "silent")
	run(1, "verification", "fetch", "broken")
	run(1, "verification", "show", "--user-reference", reference+"-unknown")
	outputs["jumio-health"] = run(1, "jumio-health")
	outputs["config"] = run(0, "config")

	signed := jumio.reference("marked-order-good")
	db.exec(`SELECT jumio.expect('silent', 'a1', 'amer-1', $1)`, signed)
	db.exec(`UPDATE callbackd.expectations SET next_ask_at = now()`)
	eventually(t, patience, func() error {
		stages := strings.Join(db.texts(`SELECT workflow_execution_id || ' ' || stage || ' ' || retrieval_state FROM jumio.verifications ORDER BY 1`), ", ")
		if want := "fetched decided retrieved, silent overdue awaiting, w1 decided retrieved"; stages != want {
			return fmt.Errorf("got %s, want %s", stages, want)
		}
		a, err := get(worker.admin + "/readyz")
		if err == nil && !strings.Contains(a.body, "Jumio in amer-1: unknown") {
			err = errors.New("the worker has not asked for Jumio's health")
		}
		return err
	})
	outputs["show"] = run(0, "verification", "show", "w1")
	outputs["metrics"] = worker.metricsText(t)
	readiness, err := get(worker.admin + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	outputs["/readyz"] = shown(t, readiness)
	worker.stop(terminate)
	outputs["log"] = worker.stderr.String() + worker.stdout.String()
	outputs["traces"] = collector.Raw()

	secrets := map[string]string{
		"access token": markedAccess, "sdk.token": markedSDK, "api.token": markedAPI, "web.href": markedWeb, "client secret": secret,
		"Basic credentials": base64.StdEncoding.EncodeToString([]byte(sandboxClient + ":" + secret)),
		"userReference key": key, "callback URL": "marked-path-Ge4Wi", "error body": markedError, "unknown status": markedStatus, "unknown health": markedHealth,
	}
	wantNoSecrets(t, map[string]string{"tables": db.everything()}, inAnyForm(secrets))
	for name, value := range map[string]string{
		"userReference": reference, "signature": strings.TrimPrefix(signed, reference), "customerInternalReference": "marked-order",
		"name": markedName, "document": markedDocument,
	} {
		secrets[name] = value
	}
	wantNoSecrets(t, outputs, secrets)
}

// everything is each row of each table, as text.
func (db *database) everything() string {
	db.t.Helper()
	var all strings.Builder
	for _, table := range db.texts(`SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
		WHERE c.relkind = 'r' AND n.nspname NOT IN ('pg_catalog', 'information_schema')`) {
		for _, row := range db.texts(`SELECT t::text FROM ` + table + ` AS t`) {
			all.WriteString(row + "\n")
		}
	}
	return all.String()
}

// inAnyForm adds the secrets as they would stand in a bytea.
func inAnyForm(secrets map[string]string) map[string]string {
	forms := map[string]string{}
	for name, secret := range secrets {
		forms[name], forms[name+" in hex"] = secret, hex.EncodeToString([]byte(secret))
	}
	return forms
}

func writeFile(t *testing.T, name string, content []byte) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// drawn is the path of an image that can be uploaded.
func drawn(t *testing.T) string {
	t.Helper()
	var out strings.Builder
	if err := png.Encode(&out, image.NewGray(image.Rect(0, 0, 8, 8))); err != nil {
		t.Fatal(err)
	}
	return writeFile(t, "front.png", []byte(out.String()))
}
