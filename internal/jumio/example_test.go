package jumio_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"callbackd/internal/jumio"
)

// Example gets the status and the details that a callback announced. The requests go
// to a stand-in; without TokenURL and RetrievalURL they go to the data center in the
// callback's href.
func Example() {
	answers := map[string]string{
		"/oauth2/token": `{"access_token":"t","expires_in":3600}`,
		"/api/v1/accounts/a/workflow-executions/w/status": `{"account":{"id":"a"},"workflowExecution":{"id":"w","status":"PROCESSED"}}`,
		"/api/v1/accounts/a/workflow-executions/w": `{"account":{"id":"a"},"workflow":{"id":"w","status":"PROCESSED"},
			"credentials":[{"id":"c","category":"ID","parts":[{"classifier":"FRONT"}]}]}`,
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, answers[r.URL.Path])
	}))
	defer server.Close()
	standIn, _ := url.Parse(server.URL)

	client, err := jumio.New(jumio.Config{
		Credentials: jumio.Credentials{ClientID: "id", ClientSecret: "secret"}, UserAgent: "YourCompany YourApp/v1.0",
		TokenURL: standIn, RetrievalURL: standIn,
		Budget: jumio.NewLocalBudget(10), MaxImageBytes: 20 << 20, ProgressTimeout: 30 * time.Second,
	}, zap.NewNop(), jumio.NewMetrics(prometheus.NewRegistry()))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()

	ctx := jumio.WithAttempt(context.Background())
	execution, err := client.ParseWorkflowHref(server.URL + "/api/v1/accounts/a/workflow-executions/w")
	if err != nil {
		fmt.Println(err)
		return
	}
	status, err := client.Status(ctx, execution)
	if err != nil {
		fmt.Println(err) // an *Error, whose Verdict says whether the attempt goes on
		return
	}
	body, err := client.Details(ctx, execution)
	if err != nil {
		fmt.Println(err)
		return
	}
	details, err := client.ParseDetails(body, execution)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(status.Status)
	for _, part := range details.Parts { // Image gets each of them
		fmt.Println(part.Category, part.Classifier)
	}
	// Output:
	// PROCESSED
	// ID FRONT
}
