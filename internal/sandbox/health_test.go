package sandbox

import (
	"net/http"
	"strings"
	"testing"
)

func healthOf(t *testing.T, s *Sandbox) string {
	t.Helper()
	r, err := http.NewRequest(http.MethodGet, s.URL(), nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", "application/json")
	r.Header.Set("User-Agent", "Example Tests/v1.0")
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	status, body := readAnswer(t, answer)
	if status != 200 {
		t.Fatalf("health: %d %s", status, body)
	}
	return string(body)
}

func setHealth(t *testing.T, s *Sandbox, body string) {
	t.Helper()
	if status, answer := post(t, s, "/_sandbox/health", body); status != 204 {
		t.Fatalf("%s: %d %s", body, status, answer)
	}
}

func TestHealthCheck(t *testing.T) {
	s := start(t, Config{})
	if got := healthOf(t, s); got != `{"status":"UP"}` {
		t.Errorf("health %s", got)
	}
	setHealth(t, s, `{"data_center":"emea-1","status":"DEGRADED","details":{"callback":"DEGRADED","mobile":"UP"}}`)
	setHealth(t, s, `{"data_center":"apac-1","status":"DOWN","details":{"retrieval":"DOWN"}}`)
	if got := healthOf(t, s); got != `{"status":"DOWN","details":{"callback":"DEGRADED","mobile":"UP","retrieval":"DOWN"}}` {
		t.Errorf("the worst of all is %s", got)
	}
	setHealth(t, s, `{"status":"DOWN"}`)
	if got := healthOf(t, s); got != `{"status":"DOWN"}` {
		t.Errorf("health %s", got)
	}
	for body, reason := range map[string]string{
		`{}`:                                     "status",
		`{"status":"GOOD"}`:                      "status",
		`{"status":"UP","extra":1}`:              "extra",
		`{"status":"UP","data_center":"mars-1"}`: "mars-1",
		`{"status":"UP","details":{"coffee":"UP"}}`:           "coffee",
		`{"status":"UP","details":{"retrieval":"ELSEWHERE"}}`: "ELSEWHERE",
	} {
		if status, answer := post(t, s, "/_sandbox/health", body); status != 400 || !strings.Contains(string(answer), reason) {
			t.Errorf("%s: %d %s", body, status, answer)
		}
	}
}

func TestHealthOfOneDataCenter(t *testing.T) {
	s := start(t, Config{StatusDataCenter: "emea-1"})
	setHealth(t, s, `{"data_center":"apac-1","status":"DOWN"}`)
	if got := healthOf(t, s); got != `{"status":"UP"}` {
		t.Errorf("health %s", got)
	}
	setHealth(t, s, `{"data_center":"emea-1","status":"DEGRADED"}`)
	if got := healthOf(t, s); got != `{"status":"DEGRADED"}` {
		t.Errorf("health %s", got)
	}
}

func TestHealthCheckIsAsStrictAsTheGuide(t *testing.T) {
	s := start(t, Config{Faults: faults(t, "health:500:1")})
	c := login(t, s)
	for _, tt := range []struct {
		header, value string
		want          int
	}{
		{"Accept", "*/*", 403},
		{"User-Agent", "", 403},
		{"Authorization", "", 500}, // the fault's
		{"Authorization", "", 200},
	} {
		r := c.request("/")
		r.Header.Del("Content-Type")
		r.Header.Set(tt.header, tt.value)
		if status, answer, err := c.do(r); err != nil || status != tt.want {
			t.Errorf("%s %q: %d %s %v, want %d", tt.header, tt.value, status, answer, err, tt.want)
		}
	}
}

func TestWhatIsDownAnswers503(t *testing.T) {
	s := start(t, Config{Clients: []Client{{ID: "sandbox", Secret: "sandbox", DataCenter: "emea-1"}, {ID: "us", Secret: "u", DataCenter: "amer-1"}}})
	c := login(t, s)
	a, j := c.create(initiationOf("2", `"reportingCriteria":"kind=passed-passport"`))
	asks := func(want, wantAPI int) {
		t.Helper()
		for _, path := range []string{detailsPath(j), detailsPath(j) + "/status"} {
			if status, answer := c.get(path); status != want {
				t.Errorf("%s: %d %s, want %d", path, status, answer, want)
			}
		}
		if status, answer := c.upload(credentialOf(t, a, "ID"), "front", pngOf(t, 4, 3)); status != wantAPI {
			t.Errorf("upload: %d %s, want %d", status, answer, wantAPI)
		}
		if status, answer := c.send(http.MethodPost, accounts, "application/json", initiationOf("3")); status != wantAPI {
			t.Errorf("create: %d %s, want %d", status, answer, wantAPI)
		}
	}
	asks(200, 200)
	setHealth(t, s, `{"data_center":"emea-1","status":"DOWN","details":{"retrieval":"DOWN"}}`)
	asks(503, 200)
	setHealth(t, s, `{"data_center":"emea-1","status":"DOWN","details":{"api":"DOWN"}}`)
	asks(200, 503)
	setHealth(t, s, `{"data_center":"emea-1","status":"UP"}`)
	setHealth(t, s, `{"data_center":"amer-1","status":"DOWN","details":{"retrieval":"DOWN","api":"DOWN"}}`)
	asks(200, 200)
	if e := j.entry(); e.DetailsRequests != (Hits{4, 3}) {
		t.Errorf("ledger %+v", e.DetailsRequests)
	}
}
