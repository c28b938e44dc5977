package sandbox

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"image"
	_ "image/jpeg" // for upload
	_ "image/png"
	"io"
	"net/http"
	"slices"

	"github.com/go-chi/chi/v5"

	"callbackd/internal/sandbox/journey"
)

// The guide's limits of an uploaded file ("API", "Request Body").
const (
	maxUpload = 10 << 20
	maxPixels = 8000 // of width and of height
)

// uploadClassifiers are the guide's for an upload.
var uploadClassifiers = []string{"FRONT", "BACK", "FACE", "FACEMAP"}

// acquire serves one endpoint that takes a credential's own token.
func (s *Sandbox) acquire(endpoint Endpoint, find func(http.ResponseWriter, *http.Request) (visit, action), contentTypes ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		answer := cmp.Or(checkHeaders(r, http.StatusForbidden, contentTypes...), checkLength(r), checkIDs(r))
		if answer == nil {
			v, act := find(w, r)
			answer = s.visit(r, Client{}, v, act)
		}
		s.deliver(w, r, endpoint, answer)
	}
}

// authorized finds the journey in the path and what the bearer token allows of it.
func (s *Sandbox) authorized(r *http.Request) (*Journey, grant, action) {
	g, ok := s.granted(bearer(r))
	j, found := s.findWorkflow(r)
	switch {
	case !ok:
		return nil, g, func() *response { return unauthorized("the credential's token is missing, wrong or no longer valid") }
	case !found:
		return nil, g, rejected(http.StatusNotFound, "the workflow execution is not available")
	case g.journey != j || g.use == useWeb || g.use == useSDK:
		return nil, g, rejected(http.StatusForbidden, "the token is not for this")
	}
	return j, g, nil
}

// closed is the answer when the user can give nothing more.
func closed(err error) *response {
	if errors.Is(err, errNotAvailable) {
		return problem(http.StatusNotFound, err.Error())
	}
	return unauthorized(err.Error())
}

// upload is the guide's upload of a part ("API").
func (s *Sandbox) upload(w http.ResponseWriter, r *http.Request) (visit, action) {
	j, g, refusal := s.authorized(r)
	if refusal != nil {
		return visit{}, refusal
	}
	classifier := chi.URLParam(r, "classifier")
	i := slices.IndexFunc(j.parts, func(p *part) bool {
		return p.Credential == chi.URLParam(r, "credential") && p.Classifier == classifier
	})
	switch {
	case i < 0 || !slices.Contains(uploadClassifiers, classifier):
		return visit{}, rejected(http.StatusNotFound, "the workflow execution has no such part")
	case g.use != j.parts[i].Credential:
		return visit{}, rejected(http.StatusForbidden, "the token is not for this credential")
	}
	return visit{EndpointUpload, j, nil}, func() *response {
		content, contentType, err := readUpload(w, r)
		if err != nil {
			return problem(http.StatusBadRequest, err.Error())
		}
		if err := s.act(j, func(*acquisition) { j.parts[i].take(content, contentType) }); err != nil {
			return closed(err)
		}
		s.total(func(t *Totals) { t.Uploads++ })
		return jsonResponse(map[string]any{
			"timestamp": s.timestamp(), "account": journey.Ref{ID: j.AccountID}, "workflowExecution": journey.Ref{ID: j.WorkflowExecutionID},
			"api": s.apiAnswer(j, g.use, bearer(r)),
		})
	}
}

// take keeps what was uploaded; the caller holds the journey's mutex.
func (p *part) take(content []byte, contentType string) {
	p.uploaded, p.uploadedType = content, contentType
	p.drawn, p.size, p.sha256 = true, len(content), sha256.Sum256(content)
}

// readUpload reads the form's field file and checks it.
func readUpload(w http.ResponseWriter, r *http.Request) (content []byte, contentType string, err error) {
	r.Body = http.MaxBytesReader(w, r.Body, maxUpload+64<<10)
	form, err := r.MultipartReader()
	if err != nil {
		return nil, "", errors.New("the body is no multipart form")
	}
	for {
		field, err := form.NextPart()
		if err != nil {
			return nil, "", errors.New("the form has no field file")
		}
		if field.FormName() != "file" {
			continue
		}
		if content, err = io.ReadAll(field); err != nil || len(content) > maxUpload {
			return nil, "", fmt.Errorf("the file is broken off, or larger than %d bytes", maxUpload)
		}
		contentType, err = checkPicture(content)
		return content, contentType, err
	}
}

// checkPicture returns the content type of a JPEG or PNG within the guide's limits.
func checkPicture(content []byte) (contentType string, err error) {
	picture, format, err := image.DecodeConfig(bytes.NewReader(content))
	switch {
	case err != nil:
		return "", errors.New("the file is neither JPEG nor PNG")
	case len(content) > maxUpload:
		return "", fmt.Errorf("the file is larger than %d bytes", maxUpload)
	case picture.Width > maxPixels || picture.Height > maxPixels:
		return "", fmt.Errorf("the picture is larger than %d x %[1]d", maxPixels)
	}
	return "image/" + format, nil
}

// finalization is the guide's "Finalization". The body does not matter.
func (s *Sandbox) finalization(_ http.ResponseWriter, r *http.Request) (visit, action) {
	j, _, refusal := s.authorized(r)
	if refusal != nil {
		return visit{}, refusal
	}
	return visit{EndpointFinalize, j, nil}, func() *response {
		if err := s.finalize(j); err != nil {
			return closed(err)
		}
		return jsonResponse(map[string]any{
			"timestamp": s.timestamp(), "account": journey.Ref{ID: j.AccountID}, "workflowExecution": journey.Ref{ID: j.WorkflowExecutionID},
		})
	}
}
