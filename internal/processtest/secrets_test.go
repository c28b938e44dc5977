package processtest

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"callbackd/internal/tracing/tracetest"
)

// TestSecretsStayOut: at the level debug, with every fault that the sandbox
// draws and every refusal, no secret and nothing of a person is in a log, a
// metric, a trace, an answer, a job, an error of the database's or a command's output.
func TestSecretsStayOut(t *testing.T) {
	t.Parallel()
	const (
		path     = "/jumio/marked-path-Kq3Zr"
		key      = "marked-key-Wv8Xt"
		bodyMark = "marked-body-Ub5Jn"
		apiKey   = "marked-api-key-Tm2Vc"
	)
	collector := tracetest.Start(t)
	dsn := migrated(t)
	db := open(t, dsn)
	sandboxArgs := []string{"--fast-images", "--fault-rate", "1", "--fault", "token:500:1", "--fault", "token:broken_json:1"}
	for _, fault := range []string{
		"details:400:1", "details:401:1", "details:revoked:1", "details:403:1", "details:404:1", "details:429:1:retry-after=1s", "details:500:1",
		"details:broken_json:1", "details:not_final:1", "details:reset:1", "details:redirect:1", "details:html:1", "image:404:1", "image:500:1",
		"image:truncated:1", "image:empty:1", "image:html:1", "image:wrong_type:1", "image:reset:1", "callback:duplicate:1", "callback:no_href",
	} {
		sandboxArgs = append(sandboxArgs, "--fault-pool", fault)
	}
	jumio := startSandbox(t, sandboxArgs...)
	environ := append(retrieving(dsn, jumio), "CALLBACKD_CALLBACK_PATH="+path, "CALLBACKD_USER_REFERENCE_KEY="+key,
		"CALLBACKD_LOG_LEVEL=debug", "CALLBACKD_MAX_BODY_BYTES=10000",
		"OTEL_EXPORTER_OTLP_ENDPOINT="+collector.URL, "OTEL_EXPORTER_OTLP_HEADERS=api-key="+apiKey)
	s := serve(t, environ)
	signed := strings.TrimSpace(succeed(t, environ, "sign", "marked-reference-Yd2Ms"))

	// The first journey meets the faults of the token endpoint.
	first := jumio.sendOne(journeys{Kind: "passed-visa", UserReference: signed, CallbackURL: s.callbackURL()})
	db.awaitState(first, "retrieved")
	secrets := map[string]string{
		"callback path": path, "part of the callback path": path[len("/jumio/"):], "userReference key": key, "client secret": sandboxSecret,
		"Basic credentials": base64.StdEncoding.EncodeToString([]byte(sandboxClient + ":" + sandboxSecret)),
		"token":             token(t, jumio), "userReference": signed, "callback body": bodyMark, "database password": password(t, dsn), "collector's key": apiKey,
	}
	var held []string
	for _, j := range []journeys{
		{Count: 40},
		{Count: 2, Kind: "passed-id-card", Faults: []string{"details:500"}},
		{Count: 2, Kind: "passed-id-card", Faults: []string{"image:html"}},
		{Kind: "odd-nul-in-string"},
		{Kind: "odd-foreign-href"},
		{Kind: "odd-foreign-facemap"},
		{Kind: "odd-wrong-types"},
	} {
		j.CallbackURL, j.UserReference, j.Hold = s.callbackURL(), signed, true
		for _, e := range jumio.send(j) {
			held = append(held, e.WorkflowExecutionID)
		}
	}
	jumio.sendHeld(held)
	outputs := map[string]string{"answers to broken requests": brokenRequests(t, s, bodyMark)}
	for name, a := range rejections(t, s, bodyMark) {
		outputs["answer to "+name] = shown(t, a)
	}
	for _, base := range []string{s.callback, s.admin} {
		for _, probe := range []string{"/readyz", "/healthz", s.path, "/metrics/.." + s.path} {
			a, err := get(base + probe)
			if err != nil {
				t.Fatal(err)
			}
			outputs[fmt.Sprintf("GET %s%s", base, strings.Replace(probe, s.path, "/<callback path>", 1))] = shown(t, a)
		}
	}
	awaitExpectedStates(t, db, jumio)

	secrets["second token"] = token(t, jumio)
	for _, value := range db.texts(`SELECT DISTINCT v FROM jumio.extracted_documents,
		unnest(ARRAY[first_name, last_name, document_number, date_of_birth::text, address ->> 'line1', data ->> 'optionalMrzField1']) AS v
		WHERE v IS NOT NULL`) {
		const tooShort = 5 // to be found for sure, and only where it means the person
		if utf8.RuneCountInString(value) >= tooShort {
			secrets["of a person: "+value] = value
		}
	}
	for _, form := range []string{"hex", "base64"} {
		// 24 bytes that begin where base64 of the whole begins a group, too.
		for n, bytes := range db.texts(`SELECT encode(substr(data, 301, 24), $1) FROM jumio.images LIMIT 20`, form) {
			secrets[fmt.Sprintf("image %d in %s", n, form)] = bytes
		}
	}
	if len(secrets) < 100 {
		t.Errorf("only %d secrets to look for", len(secrets))
	}
	outputs["metrics"] = s.metricsText(t)
	s.stop(terminate)
	outputs["log"] = s.stderr.String() + s.stdout.String()
	if !strings.Contains(outputs["log"], `"level":"debug"`) {
		t.Error("the log has no line of the level debug")
	}
	outputs["traces"] = collector.Raw()
	outputs["jobs"] = strings.Join(db.texts(`SELECT to_jsonb(j)::text FROM callbackd.river_job AS j`), "\n")
	outputs["retrieval_error"] = strings.Join(db.texts(`SELECT retrieval_error FROM jumio.workflow_executions WHERE retrieval_error IS NOT NULL`), "\n")
	outputs["reason"] = strings.Join(db.texts(`SELECT reason FROM jumio.rejected_callbacks`), "\n")
	outputs["config"] = succeed(t, environ, "config")
	outputs["rejected list"] = succeed(t, environ, "rejected", "list")
	outputs["wrong configuration"] = callbackd(t, append(environ, "CALLBACKD_WORKERS=x"), "serve").Stderr
	wantNoSecrets(t, outputs, secrets)
}

func wantNoSecrets(t *testing.T, outputs, secrets map[string]string) {
	t.Helper()
	for where, text := range outputs {
		if text == "" {
			t.Errorf("nothing to look at: %s", where)
		}
		for name, secret := range secrets {
			if secret == "" {
				t.Errorf("nothing to look for: %s", name)
			} else if strings.Contains(text, secret) {
				t.Errorf("%s: %s shows", where, name)
			}
		}
	}
}

// shown is everything in an answer.
func shown(t *testing.T, a *answer) string {
	t.Helper()
	header, err := json.Marshal(a.header)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(a.code) + string(header) + a.body
}

// brokenRequests are the answers to requests that name the callback path and that
// net/http itself rejects, or nearly does.
func brokenRequests(t *testing.T, s *instance, mark string) string {
	t.Helper()
	var answers strings.Builder
	for _, request := range []string{
		"POST " + s.path + " HTTP/1.1\r\n\r\n",
		"POST " + s.path + " HTTP/3.0\r\nHost: x\r\n\r\n",
		"POST " + s.path + "%zz HTTP/1.1\r\nHost: x\r\n\r\n",
		"POST " + s.path + " HTTP/1.1\r\nHost: x" + s.path + "\r\n\r\n",
		"POST " + s.path + " HTTP/1.1\r\nHost: x\r\n" + s.path + "\r\n\r\n",
		"POST " + s.path + " HTTP/1.1\r\nHost: x\r\nContent-Length: " + mark + "\r\n\r\n",
		"POST " + s.path + " HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + mark + "\r\n",
		"POST " + s.path + " HTTP/1.1\r\nHost: x\r\nX-Long: " + strings.Repeat(mark, 2000) + "\r\n\r\n",
		"POST " + s.path + "?" + mark + ";a;b HTTP/1.0\r\nX-Forwarded-For: " + jumioAddress + "\r\nContent-Length: 5\r\n\r\n" + mark[:5],
		"POST http://x" + s.path + "/ HTTP/1.0\r\n\r\n", "POST " + strings.ToUpper(s.path) + " HTTP/1.0\r\n\r\n",
		"TRACE " + s.path + " HTTP/1.0\r\n\r\n", "CONNECT " + s.path + " HTTP/1.0\r\n\r\n", "CONNECT x" + s.path + " HTTP/1.0\r\n\r\n",
		"OPTIONS " + s.path + "%00 HTTP/1.0\r\n\r\n", s.path + "\r\n\r\n",
	} {
		answers.WriteString(exchange(t, s, request))
	}
	return answers.String()
}

// exchange sends bytes to the callback listener and returns what comes back
// until the connection is closed.
func exchange(t *testing.T, s *instance, request string) string {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.callback, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("%q: the connection is not closed: %v", request, err)
	}
	return string(answer)
}

// rejections are the answers to requests that are rejected, each with a mark in its body.
func rejections(t *testing.T, s *instance, mark string) map[string]*answer {
	t.Helper()
	valid := `{"userReference":"` + mark + `","workflowExecution":{"id":"w","status":"PROCESSED"}}`
	answers := map[string]*answer{
		"a foreign address":    s.post(t, foreignAddress, "application/json", valid).wantCode(t, http.StatusForbidden),
		"no address":           s.post(t, "nonsense", "application/json", valid).wantCode(t, http.StatusForbidden),
		"an unsigned callback": s.post(t, jumioAddress, "application/json", valid).wantCode(t, http.StatusForbidden),
		"no callback":          s.post(t, jumioAddress, "application/json", mark).wantCode(t, http.StatusBadRequest),
		"a wrong id":           s.post(t, jumioAddress, "application/json", `{"workflowExecution":{"id":"/`+mark+`"}}`).wantCode(t, http.StatusBadRequest),
		"too much":             s.post(t, jumioAddress, "application/json", strings.Repeat(mark, 1000)).wantCode(t, http.StatusRequestEntityTooLarge),
	}
	for name, path := range map[string]string{"a trailing slash": s.path + "/", "a doubled slash": "/" + s.path, "a part of the path": s.path[:len(s.path)-1]} {
		a, err := tryPost(s.callback+path, jumioAddress, "application/json", valid)
		if err != nil {
			t.Fatal(err)
		}
		answers[name] = a.wantCode(t, http.StatusNotFound)
	}
	a, err := get(s.callbackURL() + "?" + mark)
	if err != nil {
		t.Fatal(err)
	}
	answers["another method"] = a.wantCode(t, http.StatusMethodNotAllowed)
	return answers
}

// token asks the sandbox for the token that it also gives to callbackd.
func token(t *testing.T, jumio *jumioSandbox) string {
	t.Helper()
	r, err := http.NewRequest(http.MethodPost, jumio.url+"/oauth2/token", strings.NewReader("grant_type=client_credentials"))
	if err != nil {
		t.Fatal(err)
	}
	r.SetBasicAuth(sandboxClient, sandboxSecret)
	r.Header.Set("Accept", "application/json")
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("User-Agent", "Example Processtest/v1.0")
	a, err := do(client, r)
	if err != nil {
		t.Fatal(err)
	}
	var granted struct {
		AccessToken string `json:"access_token"`
	}
	decode(t, a.wantCode(t, http.StatusOK), &granted)
	return granted.AccessToken
}

func password(t *testing.T, dsn string) string {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	password, _ := u.User.Password()
	return password
}
