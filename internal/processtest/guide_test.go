package processtest

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5"
)

// guideCallback is the example of Jumio's guide ("Callback", "Examples"), byte
// for byte.
const guideCallback = `{
  "callbackSentAt":"2021-01-21T14:55:01.917Z",
  "workflowExecution":{
    "id":"22222222-xxxx-xxxx-xxxx-xxxxxxxxxxxx",
    "href":"https://retrieval.apac-1.jumio.ai/api/v1/accounts/11111111-xxxx-xxxx-xxxx-xxxxxxxxxxxx/workflow-executions/22222222-xxxx-xxxx-xxxx-xxxxxxxxxxxx",
    "definitionKey":"3",
    "status":"PROCESSED"
},
  "account":{
    "id":"11111111-xxxx-xxxx-xxxx-xxxxxxxxxxxx",
    "href":"https://retrieval.apac-1.jumio.ai/api/v1/accounts/11111111-xxxx-xxxx-xxxx-xxxxxxxxxxxx"
  }
}
`

// callbackRow is a row of jumio.callbacks.
type callbackRow struct {
	CallbackID          string
	ReceivedAt          time.Time
	SourceIP            netip.Addr
	ContentType         string
	Body                string
	WorkflowExecutionID string
	WorkflowStatus      string
	WorkflowHref        string
	DefinitionKey       string
	AccountID           string
	AccountHref         string
	UserReference       *string
	CallbackSentAt      time.Time
}

// TestGuidesExampleWithCurlBody: the guide's own example arrives in jumio.callbacks
// with every column, as JSON, under the guide's Content-Type,
// and as `curl --data @file` sends it, which leaves the line breaks out.
func TestGuidesExampleWithCurlBody(t *testing.T) {
	t.Parallel()
	dsn := migrated(t)
	db := open(t, dsn)
	s := serve(t, receiving(dsn))
	for name, test := range map[string]struct{ contentType, body string }{
		"application/json":                  {"application/json", guideCallback},
		"application/x-www-form-urlencoded": {"application/x-www-form-urlencoded", guideCallback},
		"curl --data": {
			"application/x-www-form-urlencoded", strings.ReplaceAll(guideCallback, "\n", ""),
		},
	} {
		t.Run(name, func(t *testing.T) {
			sent := time.Now()
			id := s.post(t, jumioAddress, test.contentType, test.body).wantCode(t, http.StatusOK).header.Get("X-Request-Id")
			rows := query(db, pgx.RowToStructByPos[callbackRow], `
				SELECT callback_id::text, received_at, source_ip, content_type, convert_from(body, 'UTF8'), workflow_execution_id,
					workflow_status, workflow_href, definition_key, account_id, account_href, user_reference, callback_sent_at
				FROM jumio.callbacks WHERE callback_id = $1`, id)
			want := []callbackRow{{
				CallbackID:          id,
				ReceivedAt:          sent,
				SourceIP:            netip.MustParseAddr(jumioAddress),
				ContentType:         test.contentType,
				Body:                test.body,
				WorkflowExecutionID: "22222222-xxxx-xxxx-xxxx-xxxxxxxxxxxx",
				WorkflowStatus:      "PROCESSED",
				WorkflowHref:        "https://retrieval.apac-1.jumio.ai/api/v1/accounts/11111111-xxxx-xxxx-xxxx-xxxxxxxxxxxx/workflow-executions/22222222-xxxx-xxxx-xxxx-xxxxxxxxxxxx",
				DefinitionKey:       "3",
				AccountID:           "11111111-xxxx-xxxx-xxxx-xxxxxxxxxxxx",
				AccountHref:         "https://retrieval.apac-1.jumio.ai/api/v1/accounts/11111111-xxxx-xxxx-xxxx-xxxxxxxxxxxx",
				CallbackSentAt:      time.Date(2021, 1, 21, 14, 55, 1, 917e6, time.UTC),
			}}
			nearTime := cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".ReceivedAt" }, cmpopts.EquateApproxTime(patience))
			if diff := cmp.Diff(want, rows, nearTime, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}
