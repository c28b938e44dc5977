package processtest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"callbackd/internal/store/storetest"
)

// TestRejectedAndRefetchCommands: the commands list and replay rejected callbacks,
// which are then retrieved; refetch retrieves a result again.
func TestRejectedAndRefetchCommands(t *testing.T) {
	t.Parallel()
	dsn := migrated(t)
	db := open(t, dsn)
	jumio := startSandbox(t, "--fast-images")
	environ := retrieving(dsn, jumio)
	s := serve(t, environ)
	workflow := jumio.sendOne(journeys{Kind: "passed-passport", Faults: []string{"details:500:2"}, Hold: true})

	body := processed(workflow)
	id := s.post(t, foreignAddress, "application/json", body).wantCode(t, http.StatusForbidden).header.Get("X-Request-Id")
	if list := succeed(t, environ, "rejected", "list"); strings.Count(list, "\n") != 2 || !strings.Contains(list, id) ||
		!strings.Contains(list, foreignAddress) || !strings.Contains(list, "address_not_allowed") || strings.Contains(list, workflow) {
		t.Errorf("rejected list prints\n%s", list)
	}
	if shown := succeed(t, environ, "rejected", "show", id); !strings.Contains(shown, id) || !strings.Contains(shown, body) {
		t.Errorf("rejected show prints\n%s", shown)
	}

	// JSON may hold characters that control a terminal: U+009B, a direction override;
	// a NUL byte as an escape is harmless.
	odd := s.post(t, foreignAddress, "application/json", "{\"a\":\"\u009b2J\u202e\\u0000\"}").wantCode(t, http.StatusForbidden).header.Get("X-Request-Id")
	if shown := succeed(t, environ, "rejected", "show", odd); !strings.Contains(shown, `\u009b2J\u202e`) || strings.ContainsAny(shown, "\u009b\u202e\x00") {
		t.Errorf("rejected show prints %q", shown)
	}

	succeed(t, environ, "rejected", "replay", id)
	if w := db.awaitState(workflow, "retrieved"); w.Attempts != 3 {
		t.Errorf("retrieved with attempt %d, want 3", w.Attempts)
	}
	stored := db.texts(`SELECT concat_ws(' ', host(source_ip), convert_from(body, 'UTF8')) FROM jumio.callbacks`)
	if want := foreignAddress + " " + body; len(stored) != 1 || stored[0] != want {
		t.Errorf("jumio.callbacks holds %q, want %q", stored, want)
	}
	fails(t, environ, "rejected", "replay", id)
	if n := db.count(`SELECT count(*) FROM jumio.rejected_callbacks WHERE replayed_at IS NOT NULL`); n != 1 {
		t.Errorf("%d rejected callbacks are marked as replayed, want 1", n)
	}
	if n := db.count(`SELECT count(*) FROM jumio.callbacks`); n != 1 {
		t.Errorf("%d callbacks after a second replay, want 1", n)
	}

	fails(t, environ, "refetch", workflow, "unknown")
	succeed(t, environ, "refetch", workflow)
	eventually(t, patience, func() error {
		if n := db.count(`SELECT count(*) FROM jumio.events WHERE type = 'retrieved'`); n != 2 {
			return fmt.Errorf("%d events of type retrieved, want 2", n)
		}
		return nil
	})
	if w := db.awaitState(workflow, "retrieved"); w.Attempts != 1 {
		t.Errorf("retrieved again with attempt %d, want 1", w.Attempts)
	}
	if ok := jumio.entry(workflow).DetailsRequests.OK; ok != 2 {
		t.Errorf("the details were retrieved %d times, want 2", ok)
	}
}

// TestUserReferenceKey: with the key set, only a callback with a userReference made
// by `callbackd sign` is accepted.
func TestUserReferenceKey(t *testing.T) {
	t.Parallel()
	const key = "CALLBACKD_USER_REFERENCE_KEY=a key of ours"
	dsn := migrated(t)
	db := open(t, dsn)
	s := serve(t, append(receiving(dsn), key))
	signed := strings.TrimSpace(succeed(t, []string{key}, "sign", "customer-4711"))
	foreign := strings.TrimSpace(succeed(t, []string{"CALLBACKD_USER_REFERENCE_KEY=another"}, "sign", "customer-4711"))
	if len(signed) > 100 {
		t.Errorf("the signed userReference has %d characters, Jumio takes 100", len(signed))
	}
	for name, test := range map[string]struct {
		reference string
		code      int
	}{
		"signed":            {signed, http.StatusOK},
		"none":              {"", http.StatusForbidden},
		"unsigned":          {"customer-4711", http.StatusForbidden},
		"another key":       {foreign, http.StatusForbidden},
		"another reference": {strings.Replace(signed, "4711", "4712", 1), http.StatusForbidden},
		"signed, cut off":   {signed[:len(signed)-1], http.StatusForbidden},
		"signed, padded":    {signed + "==", http.StatusForbidden},
		"signed, and a NUL": {signed + "\x00", http.StatusForbidden},
		"signature alone":   {signed[strings.LastIndex(signed, "."):], http.StatusForbidden},
		"in another case":   {strings.ToUpper(signed), http.StatusForbidden},
		"signed twice":      {signed + signed[strings.LastIndex(signed, "."):], http.StatusForbidden},
	} {
		reference, err := json.Marshal(test.reference)
		if err != nil {
			t.Fatal(err)
		}
		body := fmt.Sprintf(`{"userReference":%s,"workflowExecution":{"id":"w","status":"ACQUIRED"}}`, reference)
		if a := s.post(t, jumioAddress, "application/json", body); a.code != test.code {
			t.Errorf("%s: answered %d, want %d", name, a.code, test.code)
		}
	}
	if stored := db.texts(`SELECT user_reference FROM jumio.callbacks`); len(stored) != 1 || stored[0] != signed {
		t.Errorf("user references of jumio.callbacks: %q, want %q", stored, signed)
	}
	if n := db.count(`SELECT count(*) FROM jumio.rejected_callbacks WHERE reason LIKE 'user_reference%'`); n != 10 {
		t.Errorf("%d callbacks are kept as rejected for their userReference, want 10", n)
	}
	if n := s.metrics(t)[`callbackd_callbacks_total{outcome="forbidden"}`]; n != 10 {
		t.Errorf("%v callbacks are counted as forbidden, want 10", n)
	}
}

// The role of a receiver may insert anything as a reason; in a terminal it forges
// neither lines nor columns.
func TestRejectedReasonIsEscaped(t *testing.T) {
	t.Parallel()
	dsn := migrated(t)
	receiver := open(t, storetest.AsMember(t, dsn, "callbackd_receiver"))
	const id = "01890a5d-ac96-774b-bcce-b302099a8057"
	const reason = "x\r\n" + id + "\t\x1b[2J\u009b2J\u202e"
	receiver.exec(`INSERT INTO callbackd.rejected_callbacks (rejected_id, received_at, reason, content_type, body)
		VALUES ($1, now(), $2, '', '')`, id, reason)
	environ := []string{"DATABASE_URL=" + dsn}
	for _, args := range [][]string{{"list"}, {"show", id}} {
		printed := succeed(t, environ, append([]string{"rejected"}, args...)...)
		if !strings.Contains(printed, strconv.Quote(reason)) || strings.ContainsAny(printed, "\r\t\x1b\u009b\u202e") {
			t.Errorf("rejected %s prints %q", args[0], printed)
		}
	}
}
