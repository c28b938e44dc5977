package handler

import (
	"bytes"
	"errors"
	"net/http"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/time/rate"

	"callbackd/internal/callback"
	"callbackd/internal/store"
)

// TestNothingLeaks puts markers into everything secret or personal and looks for them
// in the log at debug level, the metrics and the answers.
func TestNothingLeaks(t *testing.T) {
	const path = "/jumio/MARKpath"
	var log bytes.Buffer
	logs := zapcore.Lock(zapcore.AddSync(&log))
	check := func(r *http.Request) (netip.Addr, string) {
		switch r.Header.Get("X-Case") {
		case "MARKforbidden":
			return allowedAddr, "address_not_allowed"
		case "MARKpanic":
			panic("MARKpanicked with " + r.URL.String())
		case "MARKruntime":
			var none *http.Request
			_ = none.Method
		}
		return allowedAddr, ""
	}
	r := start(t, func(s *setup) {
		s.options.CallbackPath = path
		s.options.Check = check
		s.options.UserReferenceKey = "MARKkey"
		s.options.MaxBodyBytes = 2000
		s.tune = func(h *Handler, _ *http.Server) { h.logLimit.SetLimit(rate.Inf) } // every line is looked at
		s.options.Logger = zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), logs, zap.DebugLevel))
	})

	signed, err := callback.SignUserReference("MARKkey", "MARKreference")
	if err != nil {
		t.Fatal(err)
	}
	valid := `{"userReference":"` + signed + `","name":"MARKname","workflowExecution":{"id":"workflow-1","status":"MARKstatus",` +
		`"href":"https://MARKhref","definitionKey":"MARKdefinition"},"account":{"id":"MARKaccount","href":"MARKhref"}}`
	bodies := []string{
		valid,
		strings.Replace(valid, signed, "MARKunsigned", 1),
		strings.Replace(valid, "MARKreference", "MARKother", 1),
		"MARKtext", `"MARKstring"`, `{"MARKkey":1}`, `{"MARKbroken`, valid + "MARKtrailing", "MARKform=%zz",
		`{"workflowExecution":{"id":"MARK/id"}}`, "MARKlarge" + strings.Repeat("x", 2000), "",
	}
	var answers strings.Builder
	send := func(method, target, kind, body string) {
		t.Helper()
		a := r.raw(method, method+" "+target+" HTTP/1.1\r\nHost: MARKhost\r\nX-Case: "+kind+"\r\nX-Request-Id: MARKid\r\n"+
			"User-Agent: MARKagent\r\nContent-Type: MARK/type\r\nX-Forwarded-For: MARKaddress\r\nCookie: MARKcookie\r\n"+
			"Content-Length: "+strconv.Itoa(len(body))+"\r\n\r\n"+body)
		if err := a.Header.Write(&answers); err != nil {
			t.Fatal(err)
		}
		answers.WriteString(a.body)
	}
	for _, body := range bodies {
		for _, kind := range []string{"", "MARKforbidden", "MARKpanic", "MARKruntime"} {
			send("POST", path+"?token=MARKquery", kind, body)
		}
	}
	for _, target := range []string{path, path + "/", "/" + path, path + "%20", "/MARKunknown", "http://MARKhost" + path} {
		for _, method := range []string{"GET", "PUT", "MARKMETHOD", "POST"} {
			send(method, target, "", valid)
		}
	}
	r.store.insertErr = errors.Join(store.ErrUnavailable, errors.New("dial tcp: connection refused"))
	r.store.mu.Lock()
	r.store.readyErr = r.store.insertErr
	r.store.mu.Unlock()
	send("POST", path, "", valid)
	send("POST", path, "MARKforbidden", valid)
	send("GET", "/readyz?MARKquery", "", "")
	metrics := r.get("http://" + r.admin + "/metrics").body
	// What net/http itself rejects goes to the server's error log.
	r.raw("POST", "POST "+path+" HTTP/1.1\r\nHost: x\r\nMARK header: 1\r\n\r\n")

	outcomes, _ := r.outcomes()
	for _, outcome := range []string{"stored", "forbidden", "malformed", "too_large", "unavailable"} {
		if outcomes[outcome] == 0 {
			t.Errorf("no request ended as %s: %v", outcome, outcomes)
		}
	}
	logText := log.String() // lines are written before the answer is sent
	for _, want := range []string{`"outcome":"stored"`, `"workflow_execution_id":"workflow-1"`, `"reason":"malformed: invalid_form"`, "panicked"} {
		if !strings.Contains(logText, want) {
			t.Errorf("the log lacks %s", want)
		}
	}
	for name, text := range map[string]string{"log": logText, "metrics": metrics, "answers": answers.String()} {
		if found := regexp.MustCompile(`(?i).{0,80}mark.{0,40}`).FindString(text); found != "" {
			t.Errorf("the %s hold a mark: %s", name, found)
		}
	}
	for _, hint := range []string{"connection refused", "database", "address", "unsigned", "goroutine", ".go:"} {
		if strings.Contains(strings.ToLower(answers.String()), hint) {
			t.Errorf("the answers tell %q", hint)
		}
	}
}
