package callback_test

import (
	"fmt"

	"callbackd/internal/callback"
)

// The same callback as JSON and as a form.
func ExampleDecode() {
	for _, body := range []string{
		`{"callbackSentAt":"2021-01-21T14:55:01.917Z","workflowExecution":{"id":"22222222-xxxx","status":"PROCESSED"}}`,
		`callbackSentAt=2021-01-21T14%3A55%3A01.917Z&workflowExecution.id=22222222-xxxx&workflowExecution[status]=PROCESSED`,
		`{"workflowExecution":{"status":"PROCESSED"}}`,
	} {
		c, err := callback.Decode([]byte(body))
		if err != nil {
			fmt.Println("error:", err)
			continue
		}
		fmt.Println(c.WorkflowExecutionID, c.WorkflowStatus, c.CallbackSentAt)
	}
	// Output:
	// 22222222-xxxx PROCESSED 2021-01-21 14:55:01.917 +0000 UTC
	// 22222222-xxxx PROCESSED 2021-01-21 14:55:01.917 +0000 UTC
	// error: missing_workflow_execution_id
}

// A userReference that is signed when the account is created is verified when its
// callback arrives.
func ExampleSignUserReference() {
	signed, err := callback.SignUserReference("key", "ref-1")
	fmt.Println(signed, err)
	fmt.Println(callback.VerifyUserReference("key", signed))
	fmt.Println(callback.VerifyUserReference("key", "ref-2"+signed[len("ref-1"):]))
	// Output:
	// ref-1.2QiOUM6U82yzFCfp8sWwhA <nil>
	// <nil>
	// user_reference_invalid
}
