package journey

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"callbackd/internal/jumio"
)

func newJourney(t *testing.T, kind string, detailsBytes int) *Journey {
	t.Helper()
	k, err := Find(kind)
	if err != nil {
		t.Fatal(err)
	}
	return New(Settings{DetailsBytes: detailsBytes, Now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}, k, 0)
}

// unpadded returns the details without the padding.
func unpadded(t *testing.T, body []byte) map[string]any {
	t.Helper()
	var doc map[string]any
	if err := json.Unmarshal(body, &doc); err != nil {
		t.Fatalf("padded details are no JSON: %v", err)
	}
	capabilities, _ := doc["capabilities"].(map[string]any)
	extractions, _ := capabilities["extraction"].([]any)
	for _, extraction := range extractions {
		if data, ok := extraction.(map[string]any)["data"].(map[string]any); ok {
			delete(data, "dlCategories")
		}
	}
	return doc
}

func TestDetailsArePaddedToAboutTheWantedSize(t *testing.T) {
	client, err := jumio.New(jumio.Config{
		Credentials: jumio.Credentials{ClientID: "sandbox", ClientSecret: "sandbox"}, UserAgent: "Example Tests/v1.0",
		Budget: jumio.NewLocalBudget(1), MaxImageBytes: 1, ProgressTimeout: time.Second,
	}, zap.NewNop(), jumio.NewMetrics(prometheus.NewRegistry()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	retrieved := func(j *Journey, body []byte) []any {
		d, err := client.ParseDetails(body, jumio.Workflow{AccountID: j.AccountID, ID: j.WorkflowExecutionID})
		if err != nil {
			t.Fatal(err)
		}
		return []any{d.AccountID, d.Status, d.Parts, d.Missing}
	}
	for _, size := range []int{6144, 100_000} {
		for _, kind := range []string{"passed-passport", "passed-driving-license", "odd-nul-in-string", "odd-foreign-facemap"} {
			plain, padded := newJourney(t, kind, 0), newJourney(t, kind, size)
			before, after := jsonOf(plain.Details()), jsonOf(padded.Details())
			if len(after) < size*98/100 || len(after) > size*102/100 {
				t.Errorf("%s: %d bytes of details, want about %d", kind, len(after), size)
			}
			if diff := cmp.Diff(unpadded(t, before), unpadded(t, after)); diff != "" {
				t.Errorf("%s: padding changes more than dlCategories:\n%s", kind, diff)
			}
			if diff := cmp.Diff(retrieved(plain, before), retrieved(padded, after)); diff != "" {
				t.Errorf("%s: padding changes what is to be retrieved:\n%s", kind, diff)
			}
		}
	}
}

// TestDataCentersAreTheClients: the sandbox does not know the client, so it has a
// list of its own.
func TestDataCentersAreTheClients(t *testing.T) {
	client, err := jumio.New(jumio.Config{
		Credentials: jumio.Credentials{ClientID: "c", ClientSecret: "s"}, UserAgent: "Test Worker/v1", Budget: jumio.NewLocalBudget(1), MaxImageBytes: 1, ProgressTimeout: time.Second,
	}, zap.NewNop(), jumio.NewMetrics(prometheus.NewRegistry()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if diff := cmp.Diff(client.KnownDataCenters(), DataCenters); diff != "" {
		t.Error(diff)
	}
}

func TestDetailsThatCannotBePaddedStayAsTheyAre(t *testing.T) {
	for kind, size := range map[string]int{"passed-driving-license": 1000, "passed-authentication": 6144, "session-expired": 6144, "odd-empty-data": 6144} {
		before, after := jsonOf(newJourney(t, kind, 0).Details()), jsonOf(newJourney(t, kind, size).Details())
		if diff := cmp.Diff(string(before), string(after)); diff != "" {
			t.Errorf("%s changes:\n%s", kind, diff)
		}
	}
}
