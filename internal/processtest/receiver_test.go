package processtest

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"callbackd/internal/store/storetest"
)

// TestReceiveOnlyRole: an instance with CALLBACKD_WORKERS=0 needs no JUMIO_*
// variable and no more than the role callbackd_receiver; what it stored, a
// worker-only instance retrieves.
func TestReceiveOnlyRole(t *testing.T) {
	t.Parallel()
	const address = dnsAddress
	owner := migrated(t)
	db := open(t, owner)
	member := storetest.AsMember(t, owner, "callbackd_receiver")
	names := startNameServer(t, address)
	environ := append(receiving(member), "CALLBACKD_JUMIO_IPS=none", "CALLBACKD_JUMIO_HOSTS=callback.test", "CALLBACKD_DNS_SERVER="+names.address)
	jumio := startSandbox(t, "--callback-header", "X-Forwarded-For: "+address)

	s := serve(t, environ)
	first := jumio.send(journeys{Kind: "passed-passport", CallbackURL: s.callbackURL(), Hold: true})[0].WorkflowExecutionID
	jumio.sendHeld([]string{first})
	s.post(t, foreignAddress, "application/json", processed("foreign")).wantCode(t, http.StatusForbidden)
	s.post(t, address, "application/json", "no callback").wantCode(t, http.StatusBadRequest)
	if n := db.count(`SELECT count(*) FROM jumio.rejected_callbacks`); n != 2 {
		t.Errorf("%d rejected callbacks are kept, want 2", n)
	}
	eventually(t, patience, func() error {
		if db.count(`SELECT count(*) FROM callbackd.allowlist_addresses WHERE host(address) = $1`, address) == 0 {
			return fmt.Errorf("the address %s is not remembered", address)
		}
		return nil
	})
	s.stop(terminate)
	names.stop()

	s = serve(t, environ)
	if a := s.post(t, address, "application/json", processed("remembered")); a.code != http.StatusOK {
		t.Errorf("with DNS down, a remembered address is answered %d", a.code)
	}
	s.stop(terminate)
	wantNoReading(t, member)

	worker := serve(t, append(retrieving(owner, jumio), "CALLBACKD_RECEIVE=false"))
	if worker.callback != "" {
		t.Error("a worker-only instance has a callback listener")
	}
	db.awaitState(first, "retrieved")
}

// wantNoReading: the role of a receive-only instance reads nothing that Jumio
// has sent.
func wantNoReading(t *testing.T, dsn string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	for _, table := range []string{
		"jumio.callbacks", "jumio.workflow_executions", "jumio.capabilities", "jumio.extracted_documents", "jumio.images",
		"jumio.rejected_callbacks", "jumio.events", "callbackd.callbacks", "callbackd.rejected_callbacks", "callbackd.inbox",
		"callbackd.workflow_executions", "callbackd.workflow_details", "callbackd.details", "callbackd.extracted_documents", "callbackd.callbacks_1", "callbackd.images", "callbackd.events", "callbackd.river_job",
	} {
		_, err := conn.Exec(t.Context(), "SELECT FROM "+table)
		if err == nil || !strings.Contains(err.Error(), "permission denied") {
			t.Errorf("the receiver's role reads %s: %v", table, err)
		}
	}
}
