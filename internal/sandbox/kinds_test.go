package sandbox

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"callbackd/internal/sandbox/journey"
	"callbackd/internal/workflow"
)

// guide holds every decision that the guide names: capability, then decision
// type, then labels.
var guide = map[string]struct{ types, labels string }{
	"usability": {
		"PASSED REJECTED WARNING NOT_EXECUTED",
		"OK BLACK_WHITE MISSING_PAGE MISSING_SIGNATURE NOT_A_DOCUMENT BAD_QUALITY PHOTOCOPY UNSUPPORTED_COUNTRY UNSUPPORTED_DOCUMENT_TYPE NOT_UPLOADED TECHNICAL_ERROR LIVENESS_UNDETERMINED",
	},
	"liveness": {
		"PASSED REJECTED WARNING NOT_EXECUTED",
		"OK LIVENESS_UNDETERMINED ID_USED_AS_SELFIE MULTIPLE_PEOPLE DIGITAL_COPY PHOTOCOPY MANIPULATED NO_FACE_PRESENT FACE_NOT_FULLY_VISIBLE BLACK_WHITE AGE_DIFFERENCE BAD_QUALITY PRECONDITION_NOT_FULFILLED TECHNICAL_ERROR",
	},
	"similarity":     {"PASSED REJECTED WARNING NOT_EXECUTED", "MATCH NO_MATCH NOT_POSSIBLE PRECONDITION_NOT_FULFILLED TECHNICAL_ERROR"},
	"authentication": {"PASSED REJECTED NOT_EXECUTED", "OK FAILED PRECONDITION_NOT_FULFILLED TECHNICAL_ERROR"},
	"imageChecks": {
		"PASSED REJECTED WARNING NOT_EXECUTED",
		"OK DIFFERENT_PERSON DIGITAL_COPY WATERMARK MANIPULATED_DOCUMENT OTHER_REJECTION GHOST_IMAGE_DIFFERENT PUNCHED PRECONDITION_NOT_FULFILLED TECHNICAL_ERROR SAMPLE",
	},
	"extraction": {"PASSED NOT_EXECUTED", "OK PRECONDITION_NOT_FULFILLED TECHNICAL_ERROR"},
	"dataChecks": {"PASSED REJECTED NOT_EXECUTED", "OK NFC_CERTIFICATE MISMATCHING_DATAPOINTS MRZ_CHECKSUM PRECONDITION_NOT_FULFILLED TECHNICAL_ERROR"},
}

// answer is Get Workflow Details as a client reads it.
type answer struct {
	Workflow struct {
		ID, Status    string
		DefinitionKey any
	}
	Account                           struct{ ID string }
	CreatedAt, StartedAt, CompletedAt string
	Credentials                       []struct {
		ID, Category string
		Parts        []struct{ Classifier, Href string }
	}
	Capabilities map[string][]struct {
		Credentials []struct{ ID, Category string }
		Decision    struct {
			Type    string
			Details struct{ Label string }
		}
		ValidFaceMapForAuthentication string
		Data                          map[string]any
	}
}

func fetchDetails(t *testing.T, c *apiClient, j *Journey) answer {
	t.Helper()
	status, body := c.get(detailsPath(j))
	if status != http.StatusOK {
		t.Fatalf("%s: details %d %s", j.Kind, status, body)
	}
	var a answer
	if err := json.Unmarshal(body, &a); err != nil {
		t.Fatalf("%s: %v", j.Kind, err)
	}
	return a
}

func TestEveryKindAnswersAsTheGuideSays(t *testing.T) {
	s := start(t, Config{Seed: 1, FastImages: true})
	c := login(t, s)
	seen := map[string]bool{}
	for _, k := range journey.Kinds() {
		t.Run(k.Name, func(t *testing.T) {
			j := newJourney(t, s, k.Name)
			a := fetchDetails(t, c, j)
			seen["status "+a.Workflow.Status] = true
			if a.Workflow.ID != j.WorkflowExecutionID || a.Account.ID != j.AccountID || a.Workflow.Status != j.Status {
				t.Errorf("workflow %+v, account %+v", a.Workflow, a.Account)
			}
			if _, err := time.Parse("2006-01-02T15:04:05.000Z", a.CreatedAt); err != nil {
				t.Error(err)
			}
			for name, entries := range a.Capabilities {
				allowed, known := guide[name]
				if !known && k.Name != "passed-later-jumio" {
					t.Errorf("the guide knows no capability %s", name)
				}
				for _, entry := range entries {
					decision, label := entry.Decision.Type, entry.Decision.Details.Label
					seen[name+" type "+decision], seen[name+" label "+label] = true, true
					if known && (!slices.Contains(strings.Fields(allowed.types), decision) || !slices.Contains(strings.Fields(allowed.labels), label)) {
						t.Errorf("%s %s %s is not in the guide", name, decision, label)
					}
				}
			}
			checkPreconditions(t, a)
			checkImages(t, c, j)
		})
	}
	for name, allowed := range guide {
		for _, decision := range strings.Fields(allowed.types) {
			if !seen[name+" type "+decision] {
				t.Errorf("no kind shows %s %s", name, decision)
			}
		}
		for _, label := range strings.Fields(allowed.labels) {
			if !seen[name+" label "+label] {
				t.Errorf("no kind shows %s with the label %s", name, label)
			}
		}
	}
	for _, status := range []string{"INITIATED", "ACQUIRED", "PROCESSED", "SESSION_EXPIRED", "TOKEN_EXPIRED"} {
		if !seen["status "+status] {
			t.Errorf("no kind shows the status %s", status)
		}
	}
}

// checkPreconditions holds the guide's "Capability execution dependencies".
func checkPreconditions(t *testing.T, a answer) {
	t.Helper()
	stopped := func(name string) bool {
		for _, entry := range a.Capabilities[name] {
			if entry.Decision.Type == "REJECTED" || entry.Decision.Type == "NOT_EXECUTED" {
				return true
			}
		}
		return false
	}
	for _, dependency := range [][2]string{
		{"imageChecks", "usability"},
		{"extraction", "imageChecks"},
		{"dataChecks", "extraction"},
		{"liveness", "usability"},
		{"similarity", "usability"},
		{"authentication", "usability"},
	} {
		for _, entry := range a.Capabilities[dependency[0]] {
			notFulfilled := entry.Decision.Type == "NOT_EXECUTED" && entry.Decision.Details.Label == "PRECONDITION_NOT_FULFILLED"
			if notFulfilled != stopped(dependency[1]) {
				t.Errorf("%s is %+v while %s stopped: %t", dependency[0], entry.Decision, dependency[1], stopped(dependency[1]))
			}
		}
	}
}

// checkImages fetches what is expected of a journey and compares it.
func checkImages(t *testing.T, c *apiClient, j *Journey) {
	t.Helper()
	for _, image := range c.s.Expected(j).Images {
		checkImage(t, c, image)
	}
}

func TestRejectedImageCheckStopsWhatDependsOnIt(t *testing.T) {
	s := start(t, Config{})
	c := login(t, s)
	a := fetchDetails(t, c, newJourney(t, s, "image-checks-digital-copy"))
	got := map[string]string{}
	for name, entries := range a.Capabilities {
		got[name] = entries[0].Decision.Type + " " + entries[0].Decision.Details.Label
	}
	want := map[string]string{
		"usability": "PASSED OK", "imageChecks": "REJECTED DIGITAL_COPY", "liveness": "PASSED OK", "similarity": "PASSED MATCH",
		"extraction": "NOT_EXECUTED PRECONDITION_NOT_FULFILLED", "dataChecks": "NOT_EXECUTED PRECONDITION_NOT_FULFILLED",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestExpectedStates(t *testing.T) {
	s := start(t, Config{})
	for _, tt := range []struct {
		kind, faults string
		state        workflow.RetrievalState
		images       string
	}{
		{"passed-passport", "", workflow.Retrieved, "FRONT FACE FACEMAP"},
		{"passed-id-card", "", workflow.Retrieved, "FRONT BACK FACE FACEMAP"},
		{"passed-driving-license", "", workflow.Retrieved, "FRONT BACK"},
		{"passed-authentication", "", workflow.Retrieved, "FACE FACEMAP"},
		{"passed-later-jumio", "", workflow.Retrieved, "FRONT FRONT_WITH_FLASH FACE LIVENESS_1 LIVENESS_2 LIVENESS_3 FACEMAP"},
		{"usability-not-uploaded", "", workflow.Retrieved, "FACE FACEMAP"},
		{"session-expired", "", workflow.NotRequired, ""},
		{"token-expired", "details:404", workflow.NotRequired, ""},
		{"initiated", "", workflow.Awaiting, ""},
		{"acquired", "", workflow.Awaiting, ""},
		{"odd-session-expired-with-details", "", workflow.NotRequired, ""},
		{"odd-session-expired-without-started-at", "", workflow.NotRequired, ""},
		{"odd-part-without-href", "", workflow.Retrieved, "FRONT BACK FACE FACEMAP"},
		{"odd-foreign-href", "", workflow.Retrieved, "FRONT BACK FACE FACEMAP"},
		{"odd-foreign-facemap", "", workflow.Partial, "FRONT BACK FACE"},
		{"odd-credential-without-parts", "", workflow.Retrieved, "FRONT BACK FACE FACEMAP"},
		{"odd-facemap-of-another-workflow", "", workflow.Retrieved, "FRONT BACK FACE FACEMAP"},
		{"odd-unknown-status", "", workflow.Retrieved, "FRONT BACK FACE FACEMAP"},
		{"odd-unknown-status", "status:500", workflow.Failed, ""},
		{"passed-passport", "status:500", workflow.Retrieved, "FRONT FACE FACEMAP"},
		{"passed-passport", "details:500:3 image:404:3", workflow.Retrieved, "FRONT FACE FACEMAP"},
		{"passed-passport", "details:500:10", workflow.Failed, ""},
		{"passed-passport", "details:404", workflow.Failed, ""},
		{"passed-passport", "details:401", workflow.Failed, ""},
		{"passed-passport", "details:404:for=1s", workflow.Retrieved, "FRONT FACE FACEMAP"},
		{"passed-passport", "details:slow image:drip", workflow.Retrieved, "FRONT FACE FACEMAP"},
		{"passed-passport", "image:404", workflow.Partial, ""},
		{"passed-passport", "image:404:part=FACE", workflow.Partial, "FRONT FACEMAP"},
		{"passed-passport", "image:404:part=BACK", workflow.Retrieved, "FRONT FACE FACEMAP"},
		{"passed-passport", "image:wrong_type", workflow.Partial, "FACEMAP"},
		{"passed-passport", "callback:id_only", workflow.Retrieved, "FRONT FACE FACEMAP"},
	} {
		t.Run(tt.kind+" "+tt.faults, func(t *testing.T) {
			j := newJourney(t, s, tt.kind, WithFaults(faults(t, tt.faults)...))
			expected := j.expected()
			var images []string
			for _, image := range expected.Images {
				images = append(images, image.Classifier)
			}
			if expected.State != tt.state || strings.Join(images, " ") != tt.images {
				t.Errorf("%s with %v, want %s with %s", expected.State, images, tt.state, tt.images)
			}
		})
	}
}

func faults(t *testing.T, texts string) []Fault {
	t.Helper()
	var all []Fault
	for _, text := range strings.Fields(texts) {
		f, err := ParseFault(text)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, f)
	}
	return all
}

func TestTheSeedDecidesEverything(t *testing.T) {
	clock := func() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }
	type shown struct {
		Entry   Entry
		Details string
	}
	generate := func(seed uint64) []shown {
		s := start(t, Config{Seed: seed, Now: clock, FaultRate: 0.5, Intermediate: 0.5})
		journeys, err := s.NewJourneys(40, "")
		if err != nil {
			t.Fatal(err)
		}
		var all []shown
		for i, j := range journeys {
			if i < 1 { // drawing takes its time
				s.Expected(j)
			}
			text, err := json.Marshal(j.Details())
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, shown{j.entry(), string(text)})
		}
		return all
	}
	first := generate(7)
	if diff := cmp.Diff(first, generate(7)); diff != "" {
		t.Error("the same seed differs:", diff)
	}
	for i, other := range generate(8) {
		if other.Entry.WorkflowExecutionID == first[i].Entry.WorkflowExecutionID || other.Details == first[i].Details {
			t.Error("another seed gives the same journey")
		}
	}
}

func TestFaultsDoNotChangeThePeople(t *testing.T) {
	quiet, faulty := start(t, Config{Seed: 5}), start(t, Config{Seed: 5, FaultRate: 1})
	for range 20 {
		a, b := newJourney(t, quiet, ""), newJourney(t, faulty, "")
		if a.WorkflowExecutionID != b.WorkflowExecutionID || a.Kind != b.Kind || a.Holder != b.Holder {
			t.Fatal("a fault shifted the random stream")
		}
		if len(a.Faults) != 0 || len(b.Faults) != 1 && !b.Waits() {
			t.Errorf("faults %v and %v", a.Faults, b.Faults)
		}
	}
}

func TestTheMixHoldsEveryKind(t *testing.T) {
	s := start(t, Config{Seed: 9})
	left := map[string]bool{}
	for _, k := range journey.Kinds() {
		left[k.Name] = true
	}
	journeys, err := s.NewJourneys(200, "") // a round is shorter
	if err != nil {
		t.Fatal(err)
	}
	for _, j := range journeys {
		delete(left, j.Kind)
	}
	if len(left) > 0 {
		t.Errorf("%d journeys without %v", len(journeys), left)
	}
}

func TestWrongJourneys(t *testing.T) {
	s := start(t, Config{})
	for name, opts := range map[string][]Option{
		"passed-passprt":  nil,
		"passed-passport": {WithFaults(Fault{Endpoint: EndpointToken, Kind: "500"})},
		"passed-id-card":  {WithFaults(Fault{Endpoint: EndpointImage, Kind: FaultNotFinal})},
		"passed-visa":     {WithCallbackURL("no address")},
	} {
		if _, err := s.NewJourney(name, opts...); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if n := len(s.Journeys()); n != 0 {
		t.Errorf("%d journeys are there", n)
	}
}
