package jumio

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// TestSecretsAreNotShown: whatever may hold a token or credentials shows none, however
// it is printed.
func TestSecretsAreNotShown(t *testing.T) {
	cfg := Config{Credentials: Credentials{"id-mark", "secret-mark"}, DataCenter: map[string]Credentials{"amer-1": {"id-mark", "secret-mark"}}}
	var texts []string
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		texts = append(texts, fmt.Sprintf(verb, cfg.Credentials), fmt.Sprintf(verb, &cfg.Credentials), fmt.Sprintf(verb, cfg))
	}
	created, err := ParseCreation([]byte(`{"account":{"id":"a"},"sdk":{"token":"sdk-mark"},"web":{"href":"https://w/?t=web-mark"},"new":"mark",
		"workflowExecution":{"id":"w","credentials":[{"id":"c","category":"ID","api":{"token":"api-mark"}}]}}`))
	if err != nil || created.SDKToken.Reveal() != "sdk-mark" || !strings.Contains(created.WebHref.Reveal(), "web-mark") || created.Credentials[0].API.Token.Reveal() != "api-mark" {
		t.Fatalf("%v", err)
	}
	for _, value := range []any{created, *created, Done{Raw: Answer("mark")}, &Health{Raw: Answer("mark")}, Link{"https://mark", "mark"}, &Link{"https://mark", "mark"}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			texts = append(texts, fmt.Sprintf(verb, value))
		}
		encoded, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, string(encoded))
	}
	encoded, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range append(texts, string(encoded)) {
		if strings.Contains(text, "mark") || strings.Contains(text, fmt.Sprintf("%x", "mark")) {
			t.Errorf("a credential shows in %s", text)
		}
	}
}

// TestNothingLeaks plants marks in everything that must not show, lets every
// endpoint fail in every way, and looks through errors, logs and labels.
func TestNothingLeaks(t *testing.T) {
	const mark = "MARK"
	secretBody := `{"access_token":"` + mark + `-refused","error":"` + mark + `","error_description":"` + mark + `"}`
	token := func(w http.ResponseWriter, _ *http.Request) { writeToken(w, mark+"-token", 3600) }
	redirect := func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/api/v1/"+mark+"?token="+mark, http.StatusFound)
	}
	hijack := func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		_, _ = fmt.Fprintf(conn, "HTTP/1.1 %s\r\n%s\r\n\r\n", mark, mark)
		_ = conn.Close()
	}
	handlers := []http.HandlerFunc{
		answer(200, mark+"/"+mark, mark), answer(200, "application/json", "{"+mark), answer(200, "image/png", mark),
		answer(400, "application/json", secretBody), answer(401, "application/json", secretBody),
		answer(403, "text/html", mark), answer(404, mark, mark), answer(429, "application/json", secretBody),
		answer(500, "text/plain", mark), redirect, hijack, brokenOff("image/jpeg", mark),
	}

	var logs strings.Builder
	core := zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.Lock(zapcore.AddSync(&logs)), zap.DebugLevel)
	reg := prometheus.NewRegistry()
	metrics := NewMetrics(reg)
	workflow := Workflow{DataCenter: "amer-1", AccountID: mark, ID: mark}
	part := Part{AccountID: mark, CredentialID: mark, Category: mark, Classifier: mark}
	initiation := []byte(`{"customerInternalReference":"` + mark + `","userReference":"` + mark + `"}`)
	image := append(drawPNG(t), mark...)
	file, err := NewFile(bytes.NewReader(image), int64(len(image)))
	if err != nil {
		t.Fatal(err)
	}
	try := func(base string) {
		u, err := url.Parse(base)
		if err != nil {
			t.Fatal(err)
		}
		for _, basic := range []bool{false, true} {
			cfg := testConfig(base)
			cfg.TokenURL, cfg.RetrievalURL, cfg.AccountURL, cfg.StatusURL, cfg.APIURL, cfg.Basic = u, u, u, u, u, basic
			cfg.Credentials = Credentials{ClientID: mark + "-client", ClientSecret: mark + "-secret"}
			c, err := New(cfg, zap.New(core), metrics)
			if err != nil {
				t.Fatal(err)
			}
			_, statusErr := c.Status(t.Context(), workflow)
			_, detailsErr := c.Details(t.Context(), workflow)
			_, imageErr := c.Image(t.Context(), "amer-1", part)
			_, parseErr := c.ParseDetails([]byte(mark), workflow)
			_, hrefErr := c.ParseWorkflowHref("https://evil.example/" + mark)
			created, createErr := c.CreateAccount(t.Context(), "amer-1", initiation)
			_, updateErr := c.UpdateAccount(t.Context(), "amer-1", mark, initiation)
			for _, verb := range []string{"%v", "%+v", "%#v"} {
				if text := fmt.Sprintf(verb, created); strings.Contains(text, mark) {
					t.Errorf("an answer shows %s", text)
				}
			}
			link := &Link{url: base + "/api/v1/accounts/" + mark, token: mark}
			_, uploadErr := c.Upload(t.Context(), link, file)
			_, finalizeErr := c.Finalize(t.Context(), link)
			_, healthErr := c.Health(t.Context(), "amer-1")
			deleteErr := errors.Join(c.DeleteAccount(t.Context(), "amer-1", mark), c.DeleteWorkflow(t.Context(), workflow))
			for _, err := range []error{
				statusErr, detailsErr, imageErr, parseErr, hrefErr, createErr, updateErr, uploadErr, finalizeErr, healthErr, deleteErr,
			} {
				for ; err != nil; err = unwrap(err) {
					if text := fmt.Sprintf("%v %+v %#v", err, err, err); strings.Contains(text, mark) {
						t.Errorf("error shows what it should not: %s", text)
					}
				}
			}
			c.Close()
		}
	}
	for _, handler := range handlers {
		try(newServer(t, token, handler).URL)
		try(newServer(t, handler, handler).URL)
	}
	closed := newServer(t, token, nil)
	closed.Close()
	try(closed.URL)

	if logs.Len() == 0 || strings.Contains(logs.String(), mark) {
		t.Errorf("logs: %s", logs.String())
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	if text := fmt.Sprint(families); !strings.Contains(text, "callbackd_jumio_requests_total") || strings.Contains(text, mark) {
		t.Errorf("metrics: %s", text)
	}
}

func unwrap(err error) error {
	u, ok := err.(interface{ Unwrap() error })
	if !ok {
		return nil
	}
	return u.Unwrap()
}
