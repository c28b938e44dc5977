package jumio

import (
	"context"
	"net/http"

	"callbackd/internal/callback"
)

// DeleteAccount deletes an account at Jumio, with all its workflow executions (guide,
// "Account Deletion"). Errors are of type *Error; CodeNotFound if Jumio does not know it,
// or no longer.
func (c *Client) DeleteAccount(ctx context.Context, dataCenter, accountID string) error {
	if !callback.ValidID(accountID) {
		return failure(EndpointDelete, CodeInvalidID, "no URL can be built from this id")
	}
	return c.delete(ctx, dataCenter, "/api/v1/accounts/"+accountID)
}

// DeleteWorkflow deletes a workflow execution at Jumio (guide, "Workflow Deletion"), which
// needs its account. Errors are as of DeleteAccount.
func (c *Client) DeleteWorkflow(ctx context.Context, w Workflow) error {
	if !callback.ValidID(w.AccountID) || !callback.ValidID(w.ID) {
		return failure(EndpointDelete, CodeInvalidID, "no URL can be built from these ids")
	}
	return c.delete(ctx, w.DataCenter, "/api/v1/accounts/"+w.AccountID+"/workflow-executions/"+w.ID)
}

// delete makes a DELETE request. What a 200 says besides is not documented.
func (c *Client) delete(ctx context.Context, dataCenter, path string) error {
	t, err := c.cfg.target(dataCenter)
	if err != nil {
		return failure(EndpointDelete, CodeNoDataCenter, "%w", err)
	}
	return c.send(ctx, t, ClassRetrieval, request{
		endpoint: EndpointDelete, method: http.MethodDelete, url: t.retrievalOrigin + path, accept: acceptJSON,
		read: func(*http.Response) error { return nil },
	})
}
