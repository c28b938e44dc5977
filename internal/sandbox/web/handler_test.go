package web_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/png"
	"io"
	"maps"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"callbackd/internal/sandbox/web"
	"callbackd/internal/sandbox/web/webtest"
)

const token = "secret-token"

// serve serves a journey under token, over real HTTP.
func serve(t *testing.T, j *webtest.Journey) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(web.Handler(webtest.Journeys{token: j}))
	t.Cleanup(server.Close)
	return server
}

func get(t *testing.T, server *httptest.Server, path string) (*http.Response, string) {
	t.Helper()
	answer, err := server.Client().Get(server.URL + path)
	if err != nil {
		t.Fatal(err)
	}
	return answer, read(t, answer)
}

func read(t *testing.T, answer *http.Response) string {
	t.Helper()
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// post returns the status, and the error code of an answer that has one.
func post(t *testing.T, server *httptest.Server, action string, fields map[string]string, files map[string][]byte) (status, code int) {
	t.Helper()
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	for name, value := range fields {
		if err := form.WriteField(name, value); err != nil {
			t.Fatal(err)
		}
	}
	for name, content := range files {
		part, err := form.CreateFormFile(name, "blob")
		if err == nil {
			_, err = part.Write(content)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := form.Close(); err != nil {
		t.Fatal(err)
	}
	answer, err := server.Client().Post(server.URL+web.AppPath+"/"+action, form.FormDataContentType(), &body)
	if err != nil {
		t.Fatal(err)
	}
	text := read(t, answer)
	if answer.StatusCode == http.StatusNoContent {
		return answer.StatusCode, 0
	}
	var wrong struct {
		ErrorCode int    `json:"errorCode"`
		Detail    string `json:"detail"`
	}
	if err := json.Unmarshal([]byte(text), &wrong); err != nil || wrong.ErrorCode == 0 || wrong.Detail == "" || strings.Contains(text, token) {
		t.Errorf("%s: %d %s", action, answer.StatusCode, text)
	}
	return answer.StatusCode, wrong.ErrorCode
}

func picture(t *testing.T) []byte {
	t.Helper()
	var file bytes.Buffer
	if err := png.Encode(&file, image.NewGray(image.Rect(0, 0, 8, 8))); err != nil {
		t.Fatal(err)
	}
	return file.Bytes()
}

// TestPage: the page offers what the journey allows, keeps its token, and may be embedded.
func TestPage(t *testing.T) {
	t.Parallel()
	j := &webtest.Journey{
		Success: "https://shop.example/ok?a=1", Error: "javascript:alert(1)",
		Documents: []string{"PASSPORT", "ID_CARD", "UTILITY_BILL"}, IssuedIn: []string{"AUT"}, Face: true,
	}
	server := serve(t, j)
	answer, page := get(t, server, web.AppPath+"?authorizationToken="+token+"&locale=fr")
	for _, part := range []string{
		`data-token="` + token + `"`, `data-account="` + webtest.AccountID + `"`, `data-workflow-execution="` + webtest.WorkflowExecutionID + `"`,
		`data-reference="onboarding &amp; more"`, `data-success-url="https://shop.example/ok?a=1"`, `data-error-url=""`, `data-needs-face="true"`, `data-error-code="0"`,
		`value="PASSPORT" data-name="Passport" data-parts="FRONT" checked`, `value="ID_CARD" data-name="Identity card" data-parts="FRONT BACK">`,
		`value="UTILITY_BILL" data-name="UTILITY_BILL" data-parts="FRONT">`, "<option>AUT</option></select>", "<code>fr</code>", `<option value="9836">`,
	} {
		if !strings.Contains(page, part) {
			t.Errorf("the page lacks %s", part)
		}
	}
	policy := answer.Header.Get("Content-Security-Policy")
	for _, directive := range []string{"default-src 'none'", "script-src 'self'", "frame-ancestors *"} {
		if !strings.Contains(policy, directive) {
			t.Errorf("Content-Security-Policy %q lacks %s", policy, directive)
		}
	}
	if answer.StatusCode != http.StatusOK || answer.Header.Get("Referrer-Policy") != "no-referrer" || answer.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("%d %v", answer.StatusCode, answer.Header)
	}
	if done := j.Done(); done.Starts != 0 {
		t.Error("loading the page has started the session")
	}
	if _, page := get(t, server, web.AppPath+"?authorizationToken="+token); !strings.Contains(page, "<code>de</code>") {
		t.Error("without a locale in the address, the journey's does not count")
	}

	answer, page = get(t, server, web.HostPath)
	if !strings.Contains(page, `allow="camera;fullscreen;accelerometer;gyroscope;magnetometer" allowfullscreen`) ||
		!strings.Contains(answer.Header.Get("Content-Security-Policy"), "frame-ancestors 'none'") {
		t.Errorf("the host page: %v %s", answer.Header, page)
	}
	for _, asset := range []string{"app.js", "drawing.js", "host.js", "web.css"} {
		if answer, _ := get(t, server, "/web/v4/assets/"+asset); answer.StatusCode != http.StatusOK {
			t.Errorf("%s: %d", asset, answer.StatusCode)
		}
	}
}

// TestTokens: a token that is not good says so with the guide's code, in the page and
// in what it posts, and nothing is done.
func TestTokens(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		token string
		err   error
		code  int
		url   string // to which the page leads
	}{
		"missing":         {"", nil, 9200, ""},
		"unknown":         {"other", nil, 9200, ""},
		"expired":         {token, web.ErrExpired, 9200, "https://shop.example/failed"},
		"session expired": {token, fmt.Errorf("sandbox: %w", web.ErrSessionExpired), 9210, "https://shop.example/failed"},
		"any other error": {token, errors.New("out of order"), 9100, "https://shop.example/failed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j := &webtest.Journey{Documents: []string{"PASSPORT"}, Error: "https://shop.example/failed"}
			j.End(tc.err)
			server := serve(t, j)
			answer, page := get(t, server, web.AppPath+"?authorizationToken="+tc.token)
			if answer.StatusCode != http.StatusForbidden || !strings.Contains(page, fmt.Sprintf(`data-error-code="%d"`, tc.code)) || !strings.Contains(page, `data-error-url="`+tc.url+`"`) {
				t.Errorf("%d %s", answer.StatusCode, page)
			}
			for action, fields := range map[string]map[string]string{
				"start":  {},
				"fail":   {"errorCode": "9400"},
				"finish": {"documentType": "PASSPORT"},
			} {
				fields["authorizationToken"] = tc.token
				if _, code := post(t, server, action, fields, map[string][]byte{"FRONT": picture(t)}); code != tc.code {
					t.Errorf("%s: error code %d, want %d", action, code, tc.code)
				}
			}
			if done := j.Done(); done.Starts > 0 || done.Finished || done.FailedWith > 0 {
				t.Errorf("done %+v", done)
			}
		})
	}
}

// TestFinish: pictures arrive whole and by classifier, and what the guide would not
// take does not arrive.
func TestFinish(t *testing.T) {
	t.Parallel()
	file := picture(t)
	large := append(slices.Clone(file), make([]byte, 10<<20)...)
	all := map[string][]byte{"FRONT": file, "BACK": append(slices.Clone(file), 1), "FACE": append(slices.Clone(file), 2)}
	without := func(classifier string) map[string][]byte {
		some := maps.Clone(all)
		delete(some, classifier)
		return some
	}
	with := func(content []byte) map[string][]byte {
		some := maps.Clone(all)
		some["FRONT"] = content
		return some
	}
	for name, tc := range map[string]struct {
		journey      *webtest.Journey
		documentType string
		files        map[string][]byte
		code         int
		classifiers  []string
	}{
		"identity card":    {&webtest.Journey{Documents: []string{"PASSPORT", "ID_CARD"}, Face: true}, "ID_CARD", all, 0, []string{"BACK", "FACE", "FRONT"}},
		"passport":         {&webtest.Journey{Documents: []string{"PASSPORT", "ID_CARD"}}, "PASSPORT", all, 0, []string{"FRONT"}},
		"face alone":       {&webtest.Journey{Face: true}, "", all, 0, []string{"FACE"}},
		"other document":   {&webtest.Journey{Documents: []string{"PASSPORT"}}, "VISA", all, 9801, nil},
		"no document":      {&webtest.Journey{Documents: []string{"PASSPORT"}}, "", all, 9801, nil},
		"needless":         {&webtest.Journey{Face: true}, "PASSPORT", all, 9801, nil},
		"no back":          {&webtest.Journey{Documents: []string{"ID_CARD"}}, "ID_CARD", without("BACK"), 9300, nil},
		"no face":          {&webtest.Journey{Documents: []string{"PASSPORT"}, Face: true}, "PASSPORT", without("FACE"), 9300, nil},
		"no picture":       {&webtest.Journey{Documents: []string{"PASSPORT"}}, "PASSPORT", with([]byte("<html>")), 9300, nil},
		"over 10 MiB":      {&webtest.Journey{Documents: []string{"PASSPORT"}}, "PASSPORT", with(large), 9300, nil},
		"expired meantime": {&webtest.Journey{Face: true, FinishError: web.ErrSessionExpired}, "", all, 9210, nil},
		"out of order":     {&webtest.Journey{Face: true, FinishError: errors.New("out of order")}, "", all, 9100, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j := tc.journey
			status, code := post(t, serve(t, j), "finish", map[string]string{"authorizationToken": token, "documentType": tc.documentType}, tc.files)
			done := j.Done()
			want := map[int]int{0: http.StatusNoContent, 9210: http.StatusForbidden, 9100: http.StatusInternalServerError}[tc.code]
			if code != tc.code || status != cmp.Or(want, http.StatusBadRequest) || done.Finished != (tc.code == 0) || done.DocumentType != tc.documentType && done.Finished {
				t.Fatalf("%d, error code %d, finished %v as %q", status, code, done.Finished, done.DocumentType)
			}
			if got := slices.Sorted(maps.Keys(done.Pictures)); !slices.Equal(got, tc.classifiers) {
				t.Errorf("pictures %v, want %v", got, tc.classifiers)
			}
			for classifier, content := range done.Pictures {
				if !bytes.Equal(content, tc.files[classifier]) {
					t.Errorf("%s is another picture", classifier)
				}
			}
		})
	}
}

// TestFail: every code of the guide, and no other.
func TestFail(t *testing.T) {
	t.Parallel()
	for _, code := range []int{9100, 9200, 9210, 9300, 9400, 9800, 9801, 9810, 9820, 9821, 9822, 9835, 9836} {
		j := &webtest.Journey{}
		status, _ := post(t, serve(t, j), "fail", map[string]string{"authorizationToken": token, "errorCode": fmt.Sprint(code)}, nil)
		if done := j.Done(); status != 204 || done.FailedWith != code {
			t.Errorf("%d: status %d, failed with %d", code, status, done.FailedWith)
		}
	}
	for _, code := range []string{"", "0", "9999", "9100x"} {
		j := &webtest.Journey{}
		status, _ := post(t, serve(t, j), "fail", map[string]string{"authorizationToken": token, "errorCode": code}, nil)
		if done := j.Done(); status != 400 || done.FailedWith != 0 {
			t.Errorf("%q: status %d, failed with %d", code, status, done.FailedWith)
		}
	}
}

// TestLongBody: no more is read than three pictures need. Not over HTTP, where the
// connection may break before the answer is read.
func TestLongBody(t *testing.T) {
	t.Parallel()
	body := &endless{}
	request := httptest.NewRequest(http.MethodPost, web.AppPath+"/finish", io.MultiReader(
		strings.NewReader("--b\r\nContent-Disposition: form-data; name=FRONT; filename=blob\r\n\r\n"), body))
	request.Header.Set("Content-Type", "multipart/form-data; boundary=b")
	answer := httptest.NewRecorder()
	web.Handler(webtest.Journeys{}).ServeHTTP(answer, request)
	if answer.Code != 400 || !strings.Contains(answer.Body.String(), "9300") || body.read > 32<<20 {
		t.Errorf("%d %s after %d bytes", answer.Code, answer.Body, body.read)
	}
}

// endless counts what is read of it.
type endless struct{ read int }

func (e *endless) Read(p []byte) (int, error) {
	e.read += len(p)
	return len(p), nil
}

// TestErrorCodesAreDocumented: the page for teams says of every code what to tell the person.
func TestErrorCodesAreDocumented(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../../docs/starting-verifications.md")
	if err != nil {
		t.Fatal(err)
	}
	_, page := get(t, serve(t, &webtest.Journey{}), web.AppPath+"?authorizationToken="+token)
	codes := regexp.MustCompile(`<option value="(\d+)">`).FindAllStringSubmatch(page, -1)
	for _, code := range codes {
		if !strings.Contains(string(text), "\n| `"+code[1]+"` | ") {
			t.Errorf("%s is not documented", code[1])
		}
	}
	if len(codes) != 13 {
		t.Errorf("%d codes, want the guide's 13", len(codes))
	}
}
