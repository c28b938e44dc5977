package jumio

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"strings"

	"callbackd/internal/callback"
)

// Link is the checked address of an upload or a finalization, with the token for it. It
// shows as little as a Secret.
type Link struct {
	url   string
	token string
}

// Format implements fmt.Formatter, so that no verb at all shows anything.
func (Link) Format(s fmt.State, _ rune) { _, _ = s.Write([]byte(redacted)) }

// UploadLink finds where a part of a credential is uploaded (guide, "API", "Request URL").
// The href in the answer must be exactly what the answer's ids say, at the configured
// endpoint or https://api.<label>.jumio.ai of a trusted data center. Errors are of type
// *Error and hold nothing of the answer.
func (c *Client) UploadLink(created *Creation, credential *CreatedCredential, classifier string) (*Link, error) {
	if !callback.ValidID(credential.ID) || !callback.ValidID(classifier) {
		return nil, failure(EndpointUpload, CodeInvalidID, "no URL can be built from these ids")
	}
	href := credential.API.Part(classifier)
	return c.link(EndpointUpload, created, href, "/credentials/"+credential.ID+"/parts/"+classifier, credential.API.Token)
}

// Part gives the href of a classifier such as FRONT, or "".
func (a Actions) Part(classifier string) string {
	for name, href := range a.Parts {
		if strings.EqualFold(name, classifier) {
			return href
		}
	}
	return ""
}

// FinalizeLink finds where the workflow execution is finalized (guide, "Finalization"), with
// the token of the first credential that has one. Errors are as of UploadLink.
func (c *Client) FinalizeLink(created *Creation) (*Link, error) {
	for i := range created.Credentials {
		if api := &created.Credentials[i].API; api.Token != "" {
			return c.link(EndpointFinalize, created, api.WorkflowExecution, "", api.Token)
		}
	}
	return nil, failure(EndpointFinalize, CodeForeignHref, "no credential may be used through the API")
}

func (c *Client) link(endpoint string, created *Creation, href, suffix string, token Secret) (*Link, error) {
	if !callback.ValidID(created.AccountID) || !callback.ValidID(created.WorkflowExecutionID) {
		return nil, failure(endpoint, CodeInvalidID, "no URL can be built from the ids in the answer")
	}
	path := "/api/v1/accounts/" + created.AccountID + "/workflow-executions/" + created.WorkflowExecutionID + suffix
	at, named := strings.CutSuffix(href, path)
	switch configured := origin(c.cfg.APIURL); {
	case href == "":
		return nil, failure(endpoint, CodeForeignHref, "the answer has no href for it")
	case !named || at != configured && !c.isAPIOrigin(at) || at == "":
		return nil, failure(endpoint, CodeForeignHref, "the href in the answer is not the one that its ids say")
	case !tokenPattern.MatchString(string(token)):
		return nil, failure(endpoint, CodeUnauthorized, "the answer has no usable api.token for it")
	default:
		return &Link{url: cmp.Or(configured, at) + path, token: string(token)}, nil
	}
}

// isAPIOrigin tells whether text is exactly the API's origin in a trusted data center.
func (c *Client) isAPIOrigin(text string) bool {
	m := apiOrigin.FindStringSubmatch(text)
	return m != nil && c.cfg.trusts(m[1])
}

// Done is the answer to an upload or a finalization. All but Raw is empty if Jumio
// answers nothing, as it may.
type Done struct {
	// Timestamp is Jumio's, such as 2021-02-25T11:55:41.347Z.
	Timestamp           string
	AccountID           string
	WorkflowExecutionID string
	// API is what may be done next, after an upload.
	API Actions
	// Raw is the answer as it came.
	Raw Answer
}

// Upload sends one image (guide, "API", "Request"), without keeping it in memory. It is
// authorized by the link's token, which cannot be renewed. Errors are of type *Error.
func (c *Client) Upload(ctx context.Context, link *Link, file *File) (*Done, error) {
	var frame bytes.Buffer
	form := multipart.NewWriter(&frame)
	_, err := form.CreatePart(textproto.MIMEHeader{
		"Content-Disposition": {`form-data; name="file"; filename="file` + file.extension() + `"`}, // the real name may be a person's
		"Content-Type":        {file.ContentType},
	})
	head := frame.Len()
	if err = errors.Join(err, form.Close()); err != nil {
		return nil, failure(EndpointUpload, CodeInvalidID, "no form can be written")
	}
	body := io.MultiReader(bytes.NewReader(frame.Bytes()[:head]), io.NewSectionReader(file.content, 0, file.Size), bytes.NewReader(frame.Bytes()[head:]))
	return c.finish(ctx, EndpointUpload, http.MethodPost, link, form.FormDataContentType(), body, int64(frame.Len())+file.Size)
}

// Finalize says that all is uploaded (guide, "Finalization"). It is authorized by the
// link's token, which cannot be renewed. Errors are of type *Error.
func (c *Client) Finalize(ctx context.Context, link *Link) (*Done, error) {
	return c.finish(ctx, EndpointFinalize, http.MethodPut, link, acceptJSON, http.NoBody, 0)
}

func (c *Client) finish(ctx context.Context, endpoint, method string, link *Link, contentType string, body io.Reader, length int64) (*Done, error) {
	req, err := http.NewRequestWithContext(ctx, method, link.url, body)
	if err != nil {
		return nil, failure(endpoint, CodeInvalidID, "no URL can be built")
	}
	req.ContentLength = length
	req.Header.Set("Accept", acceptJSON)
	req.Header.Set("Content-Type", contentType)
	bearer(link.token)(req)
	var done *Done
	err = c.do(req, endpoint, 0, func(resp *http.Response) error {
		answer, err := io.ReadAll(io.LimitReader(resp.Body, smallLimit))
		if err != nil {
			return err
		}
		done, err = parseDone(endpoint, answer)
		return err
	})
	return done, err
}

// parseDone reads the answer to an upload or a finalization, which may be empty.
func parseDone(endpoint string, body []byte) (*Done, error) {
	done := &Done{Raw: body}
	if len(bytes.TrimSpace(body)) == 0 {
		return done, nil
	}
	answer, ok := parseObject(body)
	if !ok {
		return nil, notJSONObject(endpoint)
	}
	done.Timestamp = answer.at("timestamp").text()
	done.AccountID = answer.at("account", "id").id()
	done.WorkflowExecutionID = answer.at("workflowExecution", "id").id()
	done.API = parseActions(answer.at("api"))
	return done, nil
}
