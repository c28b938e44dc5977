package examples_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"callbackd/internal/store/storetest"
)

const (
	account           = "11111111-1111-1111-1111-aaaaaaaaaaaa"
	workflowExecution = "22222222-2222-2222-2222-aaaaaaaaaaaa"
	webHref           = "https://mycompany.web.emea-1.jumio.ai/web/v4/app?authorizationToken=xxx&locale=en"
)

// TestStarter: the link leaves only once the verification is expected and the service's own
// row is there, both or neither; and Jumio is asked as the guide says.
func TestStarter(t *testing.T) {
	t.Parallel()
	dsn := storetest.NewMigrated(t)
	owner := storetest.Open(t, dsn)
	member := storetest.AsMember(t, dsn, "jumio_starter")
	role := ownSchema(t, owner, member)
	jumio := newAccounts(t)
	address := startStarter(t, member, jumio.URL)

	if status, link := ask(t, address, "customer-4711"); status != 201 || link != webHref {
		t.Fatalf("%d %s", status, link)
	}
	want := [][]any{{workflowExecution, account, "customer-4711", "emea-1", "3", "expected"}}
	started := `SELECT s.workflow_execution_id, e.account_id, s.user_reference, e.data_center, e.definition_key, e.state
		FROM ` + role + `.started AS s JOIN jumio.expectations AS e USING (workflow_execution_id)`
	if diff := cmp.Diff(want, storetest.Query(t, owner, started)); diff != "" {
		t.Errorf("expected and started (-want +got):\n%s", diff)
	}

	storetest.Query(t, owner, "DELETE FROM "+role+".started")
	storetest.Query(t, owner, "REVOKE jumio_starter FROM "+role)
	if status, text := ask(t, address, "customer-4712"); status != 502 || strings.Contains(text, "authorizationToken") {
		t.Errorf("the link left although nothing is expected: %d %s", status, text)
	}
	if rows := storetest.Query(t, owner, "SELECT FROM "+role+".started"); len(rows) > 0 {
		t.Error("the service's row stayed although nothing is expected")
	}
}

// newAccounts answers as Jumio's tokens and account creation, and is as strict.
func newAccounts(t *testing.T) *httptest.Server {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("POST /oauth2/token", func(w http.ResponseWriter, r *http.Request) {
		id, secret, _ := r.BasicAuth()
		if id != "id" || secret != "secret" || r.PostFormValue("grant_type") != "client_credentials" || r.Header.Get("Accept") != "application/json" {
			http.Error(w, "", http.StatusForbidden)
			return
		}
		_, _ = io.WriteString(w, `{"access_token":"token","expires_in":3600,"token_type":"Bearer"}`)
	})
	mux.HandleFunc("POST /api/v1/accounts", func(w http.ResponseWriter, r *http.Request) {
		var order struct {
			CustomerInternalReference string
			WorkflowDefinition        struct{ Key int }
		}
		err := json.NewDecoder(r.Body).Decode(&order)
		if err != nil || order.CustomerInternalReference == "" || order.WorkflowDefinition.Key != 3 ||
			r.Header.Get("Authorization") != "Bearer token" || r.Header.Get("User-Agent") != "Example Starter/v1.0" ||
			r.Header.Get("Accept") != "application/json" || r.Header.Get("Content-Type") != "application/json" {
			http.Error(w, "", http.StatusForbidden)
			return
		}
		_, _ = fmt.Fprintf(w, `{"account":{"id":%q},"workflowExecution":{"id":%q},"web":{"href":%q}}`, account, workflowExecution, webHref)
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server
}

// startStarter returns the service's address.
func startStarter(t *testing.T, dsn, jumio string) string {
	t.Helper()
	command := python(t, "starter.py")
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "PORT=0", "DATABASE_URL=" + dsn, "JUMIO_TOKEN_URL=" + jumio, "JUMIO_ACCOUNT_URL=" + jumio,
		"JUMIO_CLIENT_ID=id", "JUMIO_CLIENT_SECRET=secret", "JUMIO_USER_AGENT=Example Starter/v1.0", "JUMIO_DATA_CENTER=emea-1",
	}
	var stderr output
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatalf("start starter.py: %v", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	address, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatalf("starter.py does not listen: %v: %s", err, stderr.String())
	}
	return strings.TrimSpace(address)
}

func ask(t *testing.T, address, user string) (status int, text string) {
	t.Helper()
	answer, err := http.Post(address, "text/plain", strings.NewReader(user))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(body)
}
