package jumio

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

const goodDetails = `{"workflow":{"id":"` + workflowID + `","status":"PROCESSED"}}`

// call makes one request to an endpoint.
func call(ctx context.Context, c *Client, endpoint string) error {
	var err error
	switch endpoint {
	case EndpointStatus:
		_, err = c.Status(ctx, testWorkflow)
	case EndpointDetails:
		_, err = c.Details(ctx, testWorkflow)
	case EndpointImage:
		_, err = c.Image(ctx, "amer-1", frontPart)
	}
	return err
}

// TestVerdicts is the table of what an answer means.
func TestVerdicts(t *testing.T) {
	type want struct {
		code    string
		details Verdict
		image   Verdict
	}
	both := func(code string) want { return want{code, EndAttempt, EndAttempt} }
	part := func(code string) want { return want{code, EndAttempt, SkipPart} }
	retryDate := time.Now().Add(10 * time.Minute).UTC().Format(http.TimeFormat)
	tests := []struct {
		name       string
		status     int
		retryAfter string
		want       want
		minRetry   time.Duration
		maxRetry   time.Duration
	}{
		{"204", 204, "", part(CodeUnexpectedStatus), 0, 0},
		{"206", 206, "", part(CodeUnexpectedStatus), 0, 0},
		{"304", 304, "", both(CodeRedirected), 0, 0},
		{"400", 400, "", part(CodeBadRequest), 0, 0},
		{"401 twice", 401, "", both(CodeUnauthorized), 0, 0},
		{"403", 403, "", both(CodeForbidden), 0, 0},
		{"404", 404, "", part(CodeNotFound), 0, 0},
		{"408", 408, "", both(CodeTimeout), 0, 0},
		{"410", 410, "", part(CodeUnexpectedStatus), 0, 0},
		{"429 without Retry-After", 429, "", both(CodeRateLimited), 0, 0},
		{"429 with seconds", 429, "17", both(CodeRateLimited), 17 * time.Second, 17 * time.Second},
		{"429 with a date", 429, retryDate, both(CodeRateLimited), 5 * time.Minute, 10 * time.Minute},
		{"429 with garbage", 429, "soon", both(CodeRateLimited), 0, 0},
		{"429 with a day", 429, "86400", both(CodeRateLimited), time.Hour, time.Hour},
		{"500", 500, "", both(CodeServerError), 0, 0},
		{"502", 502, "", both(CodeServerError), 0, 0},
		{"503 with Retry-After", 503, "5", both(CodeServerError), 5 * time.Second, 5 * time.Second},
		{"599", 599, "", both(CodeServerError), 0, 0},
		{"777", 777, "", part(CodeUnexpectedStatus), 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newServer(t, nil, func(w http.ResponseWriter, _ *http.Request) {
				if tt.retryAfter != "" {
					w.Header().Set("Retry-After", tt.retryAfter)
				}
				w.WriteHeader(tt.status)
			})
			c := newClient(t, testConfig(s.URL))
			for _, endpoint := range []string{EndpointStatus, EndpointDetails, EndpointImage} {
				e := asError(t, call(t.Context(), c, endpoint), tt.want.code)
				verdict := tt.want.details
				if endpoint == EndpointImage {
					verdict = tt.want.image
				}
				if e.Verdict != verdict {
					t.Errorf("%s: verdict %d, want %d", endpoint, e.Verdict, verdict)
				}
				if e.HTTPStatus != tt.status || e.Endpoint != endpoint {
					t.Errorf("got status %d of %s, want %d of %s", e.HTTPStatus, e.Endpoint, tt.status, endpoint)
				}
				if e.RetryAfter < tt.minRetry || e.RetryAfter > tt.maxRetry {
					t.Errorf("%s: Retry-After %v, want %v to %v", endpoint, e.RetryAfter, tt.minRetry, tt.maxRetry)
				}
			}
		})
	}
}

func TestJSONThatIsOfNoUse(t *testing.T) {
	for name, body := range map[string]string{
		"empty":            "",
		"HTML with 200":    "<!DOCTYPE html><html><body>Sign in</body></html>",
		"broken":           `{"workflow":{"id":`,
		"trailing garbage": goodDetails + "x",
		"array":            "[" + goodDetails + "]",
		"null":             "null",
		"string":           `"PROCESSED"`,
		"byte order mark":  "\ufeff" + goodDetails,
		"too deep":         `{"a":` + strings.Repeat("[", 20000) + strings.Repeat("]", 20000) + "}",
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t, nil, answer(200, "application/json", body))
			c := newClient(t, testConfig(s.URL))
			for _, endpoint := range []string{EndpointStatus, EndpointDetails} {
				e := asError(t, call(t.Context(), c, endpoint), CodeInvalidJSON)
				if e.Verdict != EndAttempt {
					t.Errorf("%s: verdict %d", endpoint, e.Verdict)
				}
			}
		})
	}
}

func TestDetailsTooLarge(t *testing.T) {
	s := newServer(t, nil, func(w http.ResponseWriter, _ *http.Request) {
		chunk := []byte(strings.Repeat(" ", 1<<20))
		for range detailsLimit/len(chunk) + 1 {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	})
	wantCode(t, call(t.Context(), newClient(t, testConfig(s.URL)), EndpointDetails), CodeDetailsTooLarge)
}

func TestConnectionRefused(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	_ = listener.Close()

	cfg := testConfig("http://" + address)
	cfg.Basic = true
	e := asError(t, call(t.Context(), newClient(t, cfg), EndpointDetails), CodeConnectionFailed)
	if e.Verdict != EndAttempt || e.HTTPStatus != 0 || !strings.Contains(e.Error(), "connection refused") {
		t.Errorf("got %+v", e)
	}
	cfg.Basic = false
	e = asError(t, call(t.Context(), newClient(t, cfg), EndpointImage), "token_"+CodeConnectionFailed)
	if e.Verdict != EndAttempt || e.Endpoint != EndpointToken {
		t.Errorf("got %+v", e)
	}
}

// brokenOff sends headers that promise more than what comes.
func brokenOff(contentType, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.Header().Set("Content-Length", "100000")
		_, _ = io.WriteString(w, body)
		_ = http.NewResponseController(w).Flush() // otherwise nothing is sent
		panic(http.ErrAbortHandler)
	}
}

func TestConnectionBreaksOff(t *testing.T) {
	s := newServer(t, nil, brokenOff("application/json", goodDetails))
	wantCode(t, call(t.Context(), newClient(t, testConfig(s.URL)), EndpointDetails), CodeConnectionFailed)
}

// TestMalformedAnswer: what a server sends instead of HTTP is not shown.
func TestMalformedAnswer(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = http.ReadRequest(bufio.NewReader(conn))
			_, _ = io.WriteString(conn, "HTTP/1.1 JANE-DOE 1990-01-01\r\n\r\n")
			_ = conn.Close()
		}
	}()
	cfg := testConfig("http://" + listener.Addr().String())
	cfg.Basic = true
	e := asError(t, call(t.Context(), newClient(t, cfg), EndpointDetails), CodeConnectionFailed)
	if strings.Contains(e.Error(), "JANE") {
		t.Errorf("the answer shows in %q", e)
	}
}

func TestCertificateNotTrusted(t *testing.T) {
	s := httptest.NewUnstartedServer(answer(200, "application/json", goodDetails))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	defer s.Close()
	cfg := testConfig(s.URL)
	cfg.Basic = true
	e := asError(t, call(t.Context(), newClient(t, cfg), EndpointDetails), CodeConnectionFailed)
	if !strings.Contains(e.Error(), "certificate") {
		t.Errorf("the text %q does not say why", e)
	}
}

// TestRedirect: neither the request nor the token follows.
func TestRedirect(t *testing.T) {
	elsewhere := newServer(t, nil, answer(200, "application/json", goodDetails))
	for _, status := range []int{301, 302, 303, 307, 308} {
		s := newServer(t, nil, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL+"/api/v1/stolen", status)
		})
		c := newClient(t, testConfig(s.URL))
		for _, endpoint := range []string{EndpointStatus, EndpointDetails, EndpointImage} {
			if e := asError(t, call(t.Context(), c, endpoint), CodeRedirected); e.Verdict != EndAttempt {
				t.Errorf("%d of %s: verdict %d", status, endpoint, e.Verdict)
			}
		}
	}
	s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere.URL+"/oauth2/token", http.StatusTemporaryRedirect)
	}, nil)
	wantCode(t, call(t.Context(), newClient(t, testConfig(s.URL)), EndpointDetails), "token_"+CodeRedirected)
	if n := elsewhere.apiRequests.Load() + elsewhere.tokenRequests.Load(); n != 0 {
		t.Errorf("%d requests followed a redirect", n)
	}
}

func TestCallerLeaves(t *testing.T) {
	arrived := make(chan struct{})
	s := newServer(t, nil, func(_ http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-r.Context().Done()
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-arrived
		cancel()
	}()
	err := call(ctx, newClient(t, testConfig(s.URL)), EndpointDetails)
	wantCode(t, err, CodeCanceled)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v is not context.Canceled", err)
	}
}

func TestInvalidIDs(t *testing.T) {
	s := newServer(t, nil, answer(200, "application/json", goodDetails))
	c := newClient(t, testConfig(s.URL))
	for _, id := range []string{"", "..", "a/b", "a%2Fb", "a?b", "a b", strings.Repeat("a", 65), "ä", "a\n"} {
		_, err := c.Details(t.Context(), Workflow{ID: id})
		wantCode(t, err, CodeInvalidID)
		if id != "" {
			_, err = c.Status(t.Context(), Workflow{AccountID: id, ID: workflowID})
			wantCode(t, err, CodeInvalidID)
		}
		for _, p := range []Part{
			{AccountID: id, CredentialID: "c", Classifier: "FRONT"},
			{AccountID: "a", CredentialID: id, Classifier: "FRONT"},
			{AccountID: "a", CredentialID: "c", Classifier: id},
		} {
			_, err = c.Image(t.Context(), "amer-1", p)
			if e := asError(t, err, CodeInvalidID); e.Verdict != SkipPart {
				t.Errorf("part %+v: verdict %d", p, e.Verdict)
			}
		}
	}
	if n := s.apiRequests.Load(); n != 0 {
		t.Errorf("%d requests were made", n)
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2024, 2, 29, 12, 0, 0, 0, time.UTC)
	tests := map[string]struct {
		value string
		want  time.Duration
	}{
		"absent":                   {"", 0},
		"zero":                     {"0", 0},
		"seconds":                  {"120", 2 * time.Minute},
		"leading zeros":            {"007", 7 * time.Second},
		"an hour":                  {"3600", time.Hour},
		"over the cap":             {"3601", time.Hour},
		"huge":                     {"9223372036854775807", time.Hour},
		"out of range":             {strings.Repeat("9", 400), time.Hour},
		"negative":                 {"-5", 0},
		"signed":                   {"+5", 0},
		"fraction":                 {"1.5", 0},
		"hexadecimal":              {"0x10", 0},
		"unit":                     {"5s", 0},
		"garbage":                  {"soon", 0},
		"IMF-fixdate":              {"Thu, 29 Feb 2024 12:00:30 GMT", 30 * time.Second},
		"RFC 850":                  {"Thursday, 29-Feb-24 12:00:30 GMT", 30 * time.Second},
		"asctime":                  {"Thu Feb 29 12:00:30 2024", 30 * time.Second},
		"date in the past":         {"Thu, 29 Feb 2024 11:59:59 GMT", 0},
		"date far off":             {"Sat, 29 Feb 2048 12:00:00 GMT", time.Hour},
		"date that does not exist": {"Fri, 30 Feb 2024 12:00:00 GMT", 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := retryAfter(tt.value, now); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

// Whatever Jumio writes: seconds are digits and nothing else, dates are those of
// RFC 9110, and no wait is negative or longer than the cap.
func FuzzRetryAfter(f *testing.F) {
	for _, value := range []string{
		"", "0", "17", "007", "-1", "+5", " 5", "5 ", "5\r\n", "1_000", "0x10", "٣", "3600", "3601", "99999999999999999999", "1e9", "soon",
		"Thu, 29 Feb 2024 12:00:30 GMT", "Thu, 29 Feb 2024 12:00:30 UTC", "Thursday, 29-Feb-24 12:00:30 GMT", "Thu Feb 29 12:00:30 2024",
		"Fri, 31 Dec 9999 23:59:59 GMT", "Mon, 01 Jan 0001 00:00:00 GMT",
	} {
		for _, unix := range []int64{1709208000, 0, -62135596800, 253402300799} {
			f.Add(value, unix)
		}
	}
	digits := regexp.MustCompile(`^[0-9]+$`)
	f.Fuzz(func(t *testing.T, value string, unix int64) {
		now := time.Unix(unix%(1<<38), 0)
		var want time.Duration
		if date, err := http.ParseTime(value); digits.MatchString(value) {
			want = maxRetryAfter
			if d := strings.TrimLeft(value, "0"); len(d) <= 4 {
				n, _ := strconv.Atoi("0" + d)
				want = min(time.Duration(n)*time.Second, maxRetryAfter)
			}
		} else if err == nil && date.After(now) {
			want = maxRetryAfter
			if date.Before(now.Add(maxRetryAfter)) {
				want = date.Sub(now)
			}
		}
		if got := retryAfter(value, now); got != want {
			t.Errorf("%q at %v gives %v, want %v", value, now.UTC(), got, want)
		}
	})
}
