package jumio

import (
	"context"
	"errors"
	"io"
	"net/http"

	"callbackd/internal/callback"
)

// Creation is the answer to the creation or the update of an account (guide, "Account
// Creation", "Response"): a workflow execution that waits for the person. A field that
// is missing or of another type is empty.
type Creation struct {
	// Timestamp is Jumio's, such as 2021-05-28T09:17:50.240Z.
	Timestamp           string
	AccountID           string
	WorkflowExecutionID string
	// SDKToken initializes the SDK.
	SDKToken Secret
	// WebHref is the address of the web journey, with a token in it.
	WebHref     Secret
	Credentials []CreatedCredential
	// Raw is the answer as it came.
	Raw Answer
}

// CreatedCredential is a credential that Jumio waits for (guide, "Response
// workflowExecution.credentials").
type CreatedCredential struct {
	ID string
	// Category is ID, FACEMAP, DOCUMENT, SELFIE, or one that is newer than the guide.
	Category string
	// Countries are ISO 3166-1 alpha-3 codes, Types such as PASSPORT.
	Countries, Types []string
	// AllowedChannels are some of WEB, API, SDK.
	AllowedChannels []string
	API             Actions
}

// Actions are what may be done through the API channel, with which token and at which
// addresses. Jumio leaves out what may not be done.
type Actions struct {
	Token Secret
	// Parts are the addresses for uploads, by classifier as Jumio writes it: the guide
	// has both FRONT and front.
	Parts map[string]string
	// WorkflowExecution is the address for the finalization.
	WorkflowExecution string
}

// CreateAccount creates an account with a first workflow execution (guide, "Account
// Creation") in one of Jumio's data centers. body is the guide's request body; see
// Initiation. It is sent once, and again only with a new token after a 401.
//
// The error is of type *Error. Its verdict is OutcomeUnknown if Jumio may have created
// the account all the same: then the Creation has what is known, as far as an answer
// came, and otherwise is nil. With any other verdict nothing was created.
func (c *Client) CreateAccount(ctx context.Context, dataCenter string, body []byte) (*Creation, error) {
	return c.initiate(ctx, http.MethodPost, dataCenter, "/api/v1/accounts", body)
}

// UpdateAccount starts a further workflow execution in an account (guide, "Account
// Update"). It is like CreateAccount otherwise.
func (c *Client) UpdateAccount(ctx context.Context, dataCenter, accountID string, body []byte) (*Creation, error) {
	if !callback.ValidID(accountID) {
		return nil, failure(EndpointAccount, CodeInvalidID, "no URL can be built from this id")
	}
	return c.initiate(ctx, http.MethodPut, dataCenter, "/api/v1/accounts/"+accountID, body)
}

func (c *Client) initiate(ctx context.Context, method, dataCenter, path string, body []byte) (*Creation, error) {
	t, err := c.cfg.target(dataCenter)
	if err == nil && t.dataCenter == "" {
		err = errors.New("it is not said in which data center")
	}
	if err != nil {
		return nil, failure(EndpointAccount, CodeNoDataCenter, "%w", err)
	}
	var created *Creation
	err = c.send(ctx, t, ClassAccount, request{
		endpoint: EndpointAccount, method: method, url: endpointOrigin(c.cfg.AccountURL, "account", t.dataCenter) + path,
		accept: acceptJSON, contentType: acceptJSON, body: body,
		read: func(resp *http.Response) error {
			answer, err := io.ReadAll(io.LimitReader(resp.Body, smallLimit))
			if err != nil {
				created = &Creation{Raw: answer}
				return err
			}
			created, err = ParseCreation(answer)
			return err
		},
	})
	return created, err
}

// ParseCreation reads the answer to a creation or an update. Errors are of type *Error:
// CodeInvalidJSON for anything but a JSON object, and CodeNoWorkflowExecution if it does
// not name one. Raw is there even then.
func ParseCreation(body []byte) (*Creation, error) {
	created := &Creation{Raw: body}
	answer, ok := parseObject(body)
	if !ok {
		return created, notJSONObject(EndpointAccount)
	}
	created.Timestamp = answer.at("timestamp").text()
	created.AccountID = answer.at("account", "id").id()
	created.WorkflowExecutionID = answer.at("workflowExecution", "id").id()
	created.SDKToken = Secret(answer.at("sdk", "token").text())
	created.WebHref = Secret(answer.at("web", "href").text())
	for _, credential := range answer.at("workflowExecution", "credentials").list() {
		created.Credentials = append(created.Credentials, CreatedCredential{
			ID:              credential.at("id").id(),
			Category:        credential.at("category").id(),
			Countries:       credential.at("country", "values").texts(),
			Types:           credential.at("type", "values").texts(),
			AllowedChannels: credential.at("allowedChannels").texts(),
			API:             parseActions(credential.at("api")),
		})
	}
	if created.WorkflowExecutionID == "" {
		return created, contentError(EndpointAccount, CodeNoWorkflowExecution, "the answer names no workflow execution")
	}
	return created, nil
}

func parseActions(api node) Actions {
	return Actions{
		Token: Secret(api.at("token").text()), Parts: api.at("parts").members(), WorkflowExecution: api.at("workflowExecution").text(),
	}
}
