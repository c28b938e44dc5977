package jumio

import (
	"net/http"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestHealth: the request is the guide's, without authorization, and its examples are
// understood.
func TestHealth(t *testing.T) {
	tests := map[string]struct {
		body string
		want Health
		up   bool
	}{
		"up": {`{ "status":"UP" }`, Health{Status: "UP"}, true},
		"degraded": {
			`{"status":"DEGRADED","details":{"mobile":"DEGRADED","callback":"DEGRADED"}}`,
			Health{Status: "DEGRADED", Details: map[string]string{"mobile": "DEGRADED", "callback": "DEGRADED"}},
			false,
		},
		"down":                  {`{"status":"DOWN","details":{"api":"DOWN","web":"UP"}}`, Health{Status: "DOWN", Details: map[string]string{"api": "DOWN", "web": "UP"}}, false},
		"up, but for a service": {`{"status":"UP","details":{"retrieval":"DEGRADED"}}`, Health{Status: "UP", Details: map[string]string{"retrieval": "DEGRADED"}}, false},
		"all named":             {`{"status":"UP","details":{"retrieval":"UP"}}`, Health{Status: "UP", Details: map[string]string{"retrieval": "UP"}}, true},
		"an unknown status":     {`{"status":"up"}`, Health{}, false},
		"an unknown service":    {`{"status":"UP","details":{"new-one":"SLOW","a b":"DOWN"}}`, Health{Status: "UP", Details: map[string]string{"new-one": ""}}, false},
		"no status":             {`{}`, Health{}, false},
		"other types":           {`{"status":{"a":1},"details":["DOWN"]}`, Health{}, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := newServer(t, nil, func(w http.ResponseWriter, r *http.Request) {
				want := http.Header{"Accept": {"application/json"}, "User-Agent": {"YourCompany YourApp/v1.0"}}
				if diff := cmp.Diff(want, r.Header); diff != "" || r.Method+r.URL.String() != "GET/" {
					t.Errorf("%s %s, headers: %s", r.Method, r.URL, diff)
				}
				answer(200, "application/json", tt.body)(w, r)
			})
			cfg := testConfig(s.URL)
			cfg.Credentials = Credentials{} // it needs none
			got, err := newClient(t, cfg).Health(t.Context(), "apac-1")
			if err != nil {
				t.Fatal(err)
			}
			if got.Up() != tt.up || string(got.Raw.Reveal()) != tt.body || s.tokenRequests.Load() != 0 {
				t.Errorf("up %v, want %v", got.Up(), tt.up)
			}
			got.Raw = nil
			if diff := cmp.Diff(tt.want, *got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestHealthFails(t *testing.T) {
	s := newServer(t, nil, answer(503, "text/plain", "UP"))
	c := newClient(t, testConfig(s.URL))
	_, err := c.Health(t.Context(), "amer-1")
	wantCode(t, err, CodeServerError)
	_, err = c.Health(t.Context(), "mars-1")
	wantCode(t, err, CodeNoDataCenter)
	s = newServer(t, nil, answer(200, "text/plain", "UP"))
	_, err = newClient(t, testConfig(s.URL)).Health(t.Context(), "amer-1")
	wantCode(t, err, CodeInvalidJSON)
}

// Whatever Jumio sends: states are those of the guide or none, services can be labels, and
// nothing is up that does not say so.
func FuzzParseHealth(f *testing.F) {
	for _, seed := range []string{
		`{"status":"UP"}`, `{"status":"DOWN","details":{"retrieval":"DOWN"}}`, `{"status":"UP","details":{"":"UP","x y":1}}`, "[]", "null", `"UP"`, `{"status":null}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		got, err := ParseHealth([]byte(body))
		if err != nil {
			wantCode(t, err, CodeInvalidJSON)
			return
		}
		states := []string{got.Status}
		for service, state := range got.Details {
			states = append(states, state)
			if idOrNone(service) == "" {
				t.Errorf("service %q", service)
			}
		}
		for _, state := range states {
			if !slices.Contains([]string{"", HealthUp, HealthDegraded, HealthDown}, state) {
				t.Errorf("state %q", state)
			}
			if state != HealthUp && got.Up() {
				t.Errorf("up in spite of %q", state)
			}
		}
	})
}
