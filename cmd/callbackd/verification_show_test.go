package main

import (
	"strings"
	"testing"
	"time"

	"callbackd/internal/store/results"
)

// TestWaitsFor: what a person has not opened and what Jumio works on are never the same.
func TestWaitsFor(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	for want, s := range map[string]results.Story{
		"waits for the person to begin since 2026-11-30T12:00:00Z; Jumio is asked at 2026-11-30T12:50:00Z": {Stage: "created", ExpectedAt: at, NextAskAt: at.Add(50 * time.Minute)},
		"waits for the person to finish since 2026-11-30T12:00:00Z":                                        {Stage: "started", LastCallbackAt: at, ExpectedAt: at.Add(-time.Hour)},
		"waits for Jumio's decision since 2026-11-30T12:00:00Z":                                            {Stage: "in_review", RetrievalState: "awaiting", LastCallbackAt: at},
		"waits for its details since 2026-11-30T12:00:00Z: 2 attempts, not_found: details answered 404": {
			Stage: "in_review", RetrievalState: "pending", PendingSince: at, RetrievalAttempts: 2, RetrievalError: "not_found: details answered 404",
		},
		"REJECTED because of usability BLURRED":                {Stage: "decided", RetrievalState: "retrieved", DecisionType: "REJECTED", ReasonCapability: "usability", ReasonLabel: "BLURRED"},
		"PASSED; an image is unavailable, not_found: image":    {Stage: "decided", RetrievalState: "partial", DecisionType: "PASSED", RetrievalError: "not_found: image"},
		"the person did not finish in time; start another one": {Stage: "expired", RetrievalState: "not_required"},
	} {
		if got := waitsFor(&s); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

// TestStoryLines: each begins with its time, and holds nothing that a terminal obeys.
func TestStoryLines(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 30, 12, 0, 0, 0, time.FixedZone("", 3600))
	s := &results.Story{WorkflowExecutionID: "w", Stage: "started", Entries: []results.StoryEntry{
		{At: at, What: "callback", Detail: "NEW\x1b[2J\nSTATUS"}, {At: at.Add(time.Second), What: "new_event"},
	}}
	var out strings.Builder
	if err := writeStory(&out, s, at.Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	want := "2026-11-30T11:00:00Z  w  callback (NEW\\x1b[2J\\nSTATUS)\n" +
		"2026-11-30T11:00:01Z  w  new_event\n" +
		"2026-11-30T11:01:00Z  w  now started: waits for the person to finish\n"
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
	out.Reset()
	if err := writeStoryJSON(&out, s, at); err != nil || strings.Count(out.String(), "\n") != 1 || !strings.Contains(out.String(), `"waits_for":"waits for the person to finish"`) {
		t.Errorf("JSON: %s, %v", out.String(), err)
	}
}

func TestStoryKey(t *testing.T) {
	t.Parallel()
	for _, wrong := range [][3]string{{}, {"w", "a", ""}, {"", "a", "u"}} {
		args := []string{wrong[0]}
		if wrong[0] == "" {
			args = nil
		}
		if _, _, err := storyKey(args, wrong[1], wrong[2]); err == nil {
			t.Errorf("%q: no error", wrong)
		}
	}
}
