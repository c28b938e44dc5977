package web

import (
	"cmp"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io"
	"net/http"
	"net/url"
	"slices"
)

const (
	// AppPath is the path of web.href: AppPath?authorizationToken=TOKEN&locale=en.
	AppPath = "/web/v4/app"
	// HostPath is the page that embeds a web.href in an iframe and shows its events.
	HostPath = "/_sandbox/web"

	assetsPath = "/web/v4/assets/"
	// maxPicture is the guide's 10 MB.
	maxPicture = 10 << 20
	// maxBody has room for three pictures and the fields around them.
	maxBody = 3*maxPicture + 1<<20
)

// The app may be embedded by anybody, as Jumio's. Its redirects are navigations,
// which the policy does not concern.
const (
	appPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; " +
		"base-uri 'none'; form-action 'none'; frame-ancestors *"
	hostPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; frame-src http: https:; " +
		"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

var (
	//go:embed app.html
	appSource string
	//go:embed host.html
	hostSource []byte
	//go:embed assets
	assets embed.FS

	appPage = template.Must(template.New("app").Parse(appSource))
)

type handler struct{ journeys Journeys }

// Handler serves the paths AppPath and below, HostPath, and /web/v4/assets/. The
// app must be reachable for browsers on other sites' pages; the host page need not.
//
// What the app posts is multipart/form-data with the token in its field
// authorizationToken: AppPath/start, AppPath/finish with documentType and a file
// for each classifier, AppPath/fail with errorCode. The answer is 204, or a JSON
// object with the guide's errorCode and a detail.
func Handler(j Journeys) http.Handler {
	h := &handler{journeys: j}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+AppPath, h.serveApp)
	mux.HandleFunc("POST "+AppPath+"/start", h.act(start))
	mux.HandleFunc("POST "+AppPath+"/finish", h.act(finish))
	mux.HandleFunc("POST "+AppPath+"/fail", h.act(fail))
	mux.HandleFunc("GET "+HostPath, serveHost)
	mux.Handle("GET "+assetsPath, http.StripPrefix("/web/v4/", http.FileServerFS(assets)))
	return secured(mux)
}

// secured keeps a token in an address from other sites and from caches.
func secured(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", appPolicy)
		w.Header().Set("Referrer-Policy", "no-referrer")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

// view is what app.html shows.
type view struct {
	Token, AccountID, WorkflowExecutionID, CustomerInternalReference string
	SuccessURL, ErrorURL, Locale                                     string
	Documents                                                        []document
	Countries                                                        []string
	NeedsFace                                                        bool
	ErrorCode                                                        int // 0: the journey can be made
	ErrorCodes                                                       []errorCode
}

func (h *handler) serveApp(w http.ResponseWriter, r *http.Request) {
	token := r.URL.Query().Get("authorizationToken")
	j, err := h.journeys.ByToken(token)
	v := view{Token: token, ErrorCodes: errorCodes()}
	if j != nil {
		v.AccountID, v.WorkflowExecutionID, v.CustomerInternalReference = j.AccountID(), j.WorkflowExecutionID(), j.CustomerInternalReference()
		v.SuccessURL, v.ErrorURL = webURL(j.SuccessURL()), webURL(j.ErrorURL())
		v.Documents, v.Countries, v.NeedsFace = documents(j.DocumentTypes()), countries(j.Countries()), j.NeedsFace()
		v.Locale = j.Locale()
	}
	v.Locale = cmp.Or(r.URL.Query().Get("locale"), v.Locale, "en")
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	if err != nil {
		v.ErrorCode = codeOf(err)
		w.WriteHeader(http.StatusForbidden)
	}
	_ = appPage.Execute(w, v) // the reader may have gone
}

func serveHost(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Security-Policy", hostPolicy)
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write(hostSource) // the reader may have gone
}

// act serves what a person does in the app.
func (h *handler) act(do func(Journey, *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		if err := r.ParseMultipartForm(maxBody); err != nil { //nolint:gosec // the body is bounded
			writeError(w, requestError{codeTransmission, "the body is no multipart form of at most 31 MiB"})
			return
		}
		defer func() { _ = r.MultipartForm.RemoveAll() }()
		j, err := h.journeys.ByToken(r.PostFormValue("authorizationToken"))
		if err == nil {
			err = do(j, r)
		}
		if err != nil {
			writeError(w, err)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	}
}

func start(j Journey, _ *http.Request) error {
	j.Start()
	return nil
}

func fail(j Journey, r *http.Request) error {
	for _, c := range errorCodes() {
		if r.PostFormValue("errorCode") == fmt.Sprint(c.Code) {
			j.Fail(c.Code)
			return nil
		}
	}
	return requestError{codeClient, "errorCode is none of the guide's"}
}

func finish(j Journey, r *http.Request) error {
	documentType := r.PostFormValue("documentType")
	classifiers, err := wanted(j, documentType)
	if err != nil {
		return err
	}
	pictures := make(map[string][]byte, len(classifiers))
	for _, classifier := range classifiers {
		if pictures[classifier], err = picture(r, classifier); err != nil {
			return err
		}
	}
	return j.Finish(documentType, pictures)
}

// wanted are the classifiers of the pictures that the journey needs.
func wanted(j Journey, documentType string) (classifiers []string, err error) {
	offered := documents(j.DocumentTypes())
	i := slices.IndexFunc(offered, func(d document) bool { return d.Type == documentType })
	switch {
	case i >= 0:
		classifiers = slices.Clone(offered[i].Parts)
	case len(offered) > 0 || documentType != "":
		return nil, requestError{codeClient, "documentType is none of those to choose from"}
	}
	if j.NeedsFace() {
		classifiers = append(classifiers, "FACE")
	}
	return classifiers, nil
}

// picture reads the file of a classifier: JPEG or PNG, as the guide's API takes.
func picture(r *http.Request, classifier string) ([]byte, error) {
	file, _, err := r.FormFile(classifier)
	if err != nil {
		return nil, requestError{codeTransmission, classifier + " is missing"}
	}
	defer func() { _ = file.Close() }()
	content, err := io.ReadAll(io.LimitReader(file, maxPicture+1))
	if err != nil {
		return nil, requestError{codeTransmission, classifier + " cannot be read"}
	}
	kind := http.DetectContentType(content)
	if len(content) > maxPicture || kind != "image/jpeg" && kind != "image/png" {
		return nil, requestError{codeTransmission, classifier + " is no JPEG or PNG of at most 10 MiB"}
	}
	return content, nil
}

// requestError is what is wrong with a request.
type requestError struct {
	code   int
	detail string
}

func (e requestError) Error() string { return e.detail }

// codeOf is the guide's error code for an error.
func codeOf(err error) int {
	var wrong requestError
	switch {
	case errors.As(err, &wrong):
		return wrong.code
	case errors.Is(err, ErrSessionExpired):
		return codeSession
	case errors.Is(err, ErrExpired), errors.Is(err, ErrUnknown):
		return codeToken
	default:
		return codeServer
	}
}

func writeError(w http.ResponseWriter, err error) {
	code := codeOf(err)
	status := http.StatusBadRequest
	switch code {
	case codeToken, codeSession:
		status = http.StatusForbidden
	case codeServer:
		status = http.StatusInternalServerError
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"errorCode": code, "detail": err.Error()}) // the reader may have gone
}

// webURL is raw if a browser may be sent there, else empty.
func webURL(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return ""
	}
	return raw
}
