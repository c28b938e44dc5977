package jumio

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// answerAt is an answer whose hrefs are at an origin.
func answerAt(t *testing.T, origin string) *Creation {
	t.Helper()
	created, err := ParseCreation([]byte(strings.ReplaceAll(guideCreation, "https://api.amer-1.jumio.ai", origin)))
	if err != nil {
		t.Fatal(err)
	}
	return created
}

func newFile(t *testing.T, data []byte) *File {
	t.Helper()
	file, err := NewFile(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// TestUpload: the requests are the guide's, by the credential's own token, and whatever
// the answers say beyond 200, the upload and the finalization are done.
func TestUpload(t *testing.T) {
	jpeg, png := drawJPEG(t), drawPNG(t)
	for name, body := range map[string]string{
		"an answer": `{"timestamp":"2021-03-05T13:17:49.042Z","account":{"id":"a"},"workflowExecution":{"id":"w"},"api":{"token":"next","workflowExecution":"h"}}`,
		"nothing":   "",
	} {
		t.Run(name, func(t *testing.T) {
			var mu sync.Mutex
			var seen []string
			s := newServer(t, nil, func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				defer mu.Unlock()
				line := r.Method + " " + r.URL.String()
				contentType := r.Header.Get("Content-Type")
				if strings.HasPrefix(contentType, "multipart/form-data; boundary=") {
					contentType = "multipart/form-data"
					line += " " + formFile(t, r)
				}
				line += fmt.Sprint(" ", r.ContentLength > 0)
				want := http.Header{
					"Accept": {"application/json"}, "Authorization": {"Bearer yyy"}, "User-Agent": {"YourCompany YourApp/v1.0"},
					"Content-Type": r.Header["Content-Type"], "Content-Length": {fmt.Sprint(r.ContentLength)},
				}
				if diff := cmp.Diff(want, r.Header); diff != "" {
					t.Errorf("headers: %s", diff)
				}
				seen = append(seen, line+" "+contentType)
				answer(200, "application/json", body)(w, r)
			})
			cfg := testConfig(s.URL)
			cfg.Credentials = Credentials{} // it needs none
			c := newClient(t, cfg)
			created := answerAt(t, s.URL)
			for classifier, data := range map[string][]byte{"FRONT": jpeg, "BACK": png} {
				link, err := c.UploadLink(created, &created.Credentials[0], classifier)
				if err != nil {
					t.Fatal(err)
				}
				done, err := c.Upload(t.Context(), link, newFile(t, data))
				if err != nil {
					t.Fatal(err)
				}
				if string(done.Raw.Reveal()) != body || body != "" && (done.WorkflowExecutionID != "w" || done.AccountID != "a" || done.API.Token != "next") {
					t.Errorf("answer %+v", done)
				}
			}
			link, err := c.FinalizeLink(created)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.Finalize(t.Context(), link); err != nil {
				t.Fatal(err)
			}
			path := "/api/v1/accounts/" + createdAccount + "/workflow-executions/" + createdWorkflow
			want := map[string]bool{
				"POST " + path + "/credentials/33333333-3333-3333-aaaaaaaaaaaa/parts/FRONT file file.jpg image/jpeg " + fmt.Sprint(len(jpeg)) + " true multipart/form-data": true,
				"POST " + path + "/credentials/33333333-3333-3333-aaaaaaaaaaaa/parts/BACK file file.png image/png " + fmt.Sprint(len(png)) + " true multipart/form-data":    true,
				"PUT " + path + " false application/json": true,
			}
			got := map[string]bool{}
			for _, line := range seen {
				got[line] = true
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
			if s.tokenRequests.Load() != 0 {
				t.Error("an access token was fetched")
			}
		})
	}
}

// formFile describes the one file of a form.
func formFile(t *testing.T, r *http.Request) string {
	form, err := r.MultipartReader()
	if err != nil {
		t.Error(err)
		return ""
	}
	part, err := form.NextPart()
	if err != nil {
		t.Error(err)
		return ""
	}
	content, err := io.ReadAll(part)
	if err != nil {
		t.Error(err)
	}
	if _, err := form.NextPart(); !errors.Is(err, io.EOF) {
		t.Errorf("more than a part: %v", err)
	}
	return fmt.Sprint(part.FormName(), " ", part.FileName(), " ", part.Header.Get("Content-Type"), " ", len(content))
}

// TestLinks is the table of hrefs that are used, and of those that are refused.
func TestLinks(t *testing.T) {
	const at = "https://api.amer-1.jumio.ai/api/v1/accounts/" + createdAccount + "/workflow-executions/" + createdWorkflow
	const part = "/credentials/33333333-3333-3333-aaaaaaaaaaaa/parts/FRONT"
	own := testConfig("http://sandbox:9480")
	public := own
	public.APIURL = nil
	tests := map[string]struct {
		cfg  Config
		href string
		want string // the address, or the code of the error
	}{
		"Jumio's":                        {public, at + part, at + part},
		"another of Jumio's":             {public, strings.Replace(at, "amer", "emea", 1) + part, strings.Replace(at, "amer", "emea", 1) + part},
		"Jumio's, endpoint configured":   {own, at + part, strings.Replace(at, "https://api.amer-1.jumio.ai", "http://sandbox:9480", 1) + part},
		"configured":                     {own, strings.Replace(at, "https://api.amer-1.jumio.ai", "http://sandbox:9480", 1) + part, strings.Replace(at, "https://api.amer-1.jumio.ai", "http://sandbox:9480", 1) + part},
		"not configured":                 {public, strings.Replace(at, "https://api.amer-1.jumio.ai", "http://sandbox:9480", 1) + part, CodeForeignHref},
		"none":                           {public, "", CodeForeignHref},
		"the path alone":                 {public, strings.TrimPrefix(at, "https://api.amer-1.jumio.ai") + part, CodeForeignHref},
		"the path alone, configured":     {own, strings.TrimPrefix(at, "https://api.amer-1.jumio.ai") + part, CodeForeignHref},
		"http":                           {public, strings.Replace(at, "https", "http", 1) + part, CodeForeignHref},
		"a port":                         {public, strings.Replace(at, ".ai/", ".ai:443/", 1) + part, CodeForeignHref},
		"another port than configured":   {own, strings.Replace(at, "https://api.amer-1.jumio.ai", "http://sandbox:9481", 1) + part, CodeForeignHref},
		"another host":                   {public, strings.Replace(at, "jumio.ai", "evil.example", 1) + part, CodeForeignHref},
		"another host of Jumio's":        {public, strings.Replace(at, "api.amer", "retrieval.amer", 1) + part, CodeForeignHref},
		"an unknown data center":         {public, strings.Replace(at, "amer-1", "mars-1", 1) + part, CodeForeignHref},
		"a host before":                  {public, "https://evil.example/?x=" + at + part, CodeForeignHref},
		"user information":               {public, strings.Replace(at, "https://", "https://u:p@", 1) + part, CodeForeignHref},
		"upper case":                     {public, strings.Replace(at, "api.amer", "API.amer", 1) + part, CodeForeignHref},
		"a query":                        {public, at + part + "?x=1", CodeForeignHref},
		"a fragment":                     {public, at + part + "#", CodeForeignHref},
		"a slash":                        {public, at + part + "/", CodeForeignHref},
		"another account":                {public, strings.Replace(at, createdAccount, "b", 1) + part, CodeForeignHref},
		"another workflow execution":     {public, strings.Replace(at, createdWorkflow, "b", 1) + part, CodeForeignHref},
		"another credential":             {public, at + strings.Replace(part, "33333333", "44444444", 1), CodeForeignHref},
		"another classifier":             {public, at + strings.Replace(part, "FRONT", "BACK", 1), CodeForeignHref},
		"a path that leads elsewhere":    {public, strings.Replace(at, "/api/", "/x/../api/", 1) + part, CodeForeignHref},
		"a line break":                   {public, at + part + "\n", CodeForeignHref},
		"a line break before the origin": {public, "\n" + at + part, CodeForeignHref},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := newClient(t, tt.cfg)
			created := answerAt(t, "https://api.amer-1.jumio.ai")
			api := &created.Credentials[0].API
			api.Parts["front"], api.WorkflowExecution = tt.href, strings.Replace(tt.href, part, "", 1)
			check := func(got *Link, err error, want string) {
				t.Helper()
				if want == CodeForeignHref {
					wantCode(t, err, want)
					if strings.Contains(err.Error(), "evil") || strings.Contains(err.Error(), createdAccount) {
						t.Errorf("the error shows the href: %v", err)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				if got.url != want || got.token != "yyy" {
					t.Errorf("goes to %s, want %s", got.url, want)
				}
			}
			link, err := c.UploadLink(created, &created.Credentials[0], "FRONT")
			check(link, err, tt.want)
			if strings.Contains(tt.href, part) || tt.href == "" { // else it is right without the part
				link, err = c.FinalizeLink(created)
				check(link, err, strings.TrimSuffix(tt.want, part))
			}
		})
	}
}

// TestNoLink: what the answer lacks.
func TestNoLink(t *testing.T) {
	c := newClient(t, testConfig("http://sandbox:9480"))
	for name, tt := range map[string]struct {
		change           func(*Creation)
		upload, finalize string
	}{
		"a token":             {func(created *Creation) { created.Credentials[0].API.Token = "" }, CodeUnauthorized, CodeForeignHref},
		"a usable token":      {func(created *Creation) { created.Credentials[0].API.Token = "a\r\nX: y" }, CodeUnauthorized, CodeUnauthorized},
		"an account":          {func(created *Creation) { created.AccountID = "" }, CodeInvalidID, CodeInvalidID},
		"actions":             {func(created *Creation) { created.Credentials[0].API = Actions{} }, CodeForeignHref, CodeForeignHref},
		"the credential's id": {func(created *Creation) { created.Credentials[0].ID = "" }, CodeInvalidID, ""},
	} {
		t.Run(name, func(t *testing.T) {
			created := answerAt(t, "http://sandbox:9480")
			tt.change(created)
			_, err := c.UploadLink(created, &created.Credentials[0], "FRONT")
			wantCode(t, err, tt.upload)
			if _, err = c.FinalizeLink(created); tt.finalize != "" {
				wantCode(t, err, tt.finalize)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}

// TestUploadFails: an upload is not repeated, its token not renewed.
func TestUploadFails(t *testing.T) {
	for status, code := range map[int]string{401: CodeUnauthorized, 403: CodeForbidden, 404: CodeNotFound, 201: CodeUnexpectedStatus, 500: CodeServerError, 302: CodeRedirected} {
		s := newServer(t, nil, answer(status, "application/json", "{}"))
		c := newClient(t, testConfig(s.URL))
		link := &Link{url: s.URL + "/api/v1/x", token: "t"}
		_, err := c.Upload(t.Context(), link, newFile(t, drawPNG(t)))
		wantCode(t, err, code)
		_, err = c.Finalize(t.Context(), link)
		wantCode(t, err, code)
		if n := s.apiRequests.Load(); n != 2 || s.tokenRequests.Load() != 0 {
			t.Errorf("%d: %d requests", status, n)
		}
	}
	s := newServer(t, nil, answer(200, "text/html", "<html>"))
	_, err := newClient(t, testConfig(s.URL)).Finalize(t.Context(), &Link{url: s.URL + "/api/v1/x", token: "t"})
	wantCode(t, err, CodeInvalidJSON)
}

// slowReader takes its time for each piece.
type slowReader struct{ *bytes.Reader }

func (r slowReader) ReadAt(p []byte, off int64) (int, error) {
	time.Sleep(20 * time.Second)
	return r.Reader.ReadAt(p, off)
}

// TestSlowUpload: an upload that goes on slowly is not cut off.
func TestSlowUpload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newPipeClient(t, answer(200, "application/json", "{}"))
		data := append(drawPNG(t), make([]byte, 1<<20)...)
		file := newFile(t, data)
		file.content = slowReader{bytes.NewReader(data)}
		start := time.Now()
		if _, err := c.Upload(t.Context(), &Link{url: "http://jumio.test/api/v1/x", token: "t"}, file); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took < time.Minute {
			t.Errorf("took %v", took)
		}
	})
}

// TestFile is the table of what may be uploaded.
func TestFile(t *testing.T) {
	png, jpeg := drawPNG(t), drawJPEG(t)
	padded := func(size int) []byte { return append(bytes.Clone(png), make([]byte, size-len(png))...) }
	arithmetic := bytes.Replace(jpeg, []byte{0xff, 0xc0}, []byte{0xff, 0xc9}, 1) // real, and rare
	for name, tt := range map[string]struct {
		data []byte
		want string // the content type, or the error
	}{
		"JPEG":              {jpeg, "image/jpeg"},
		"PNG":               {png, "image/png"},
		"a rare JPEG":       {arithmetic, "image/jpeg"},
		"10 MB":             {padded(10_485_760), "image/png"},
		"over 10 MB":        {padded(10_485_761), "it has 10485761 bytes, at most 10485760 are allowed"},
		"8000 x 8000":       {pngOfSize(png, 8000, 8000), "image/png"},
		"8001 wide":         {pngOfSize(png, 8001, 1), "it has 8001 x 1 pixels, at most 8000 x 8000 are allowed"},
		"8001 high":         {pngOfSize(png, 1, 8001), "it has 1 x 8001 pixels, at most 8000 x 8000 are allowed"},
		"a large JPEG":      {jpegOfSize(jpeg, 8001), "it has 8001 x 8001 pixels, at most 8000 x 8000 are allowed"},
		"absurdly large":    {pngOfSize(png, 1<<31-1, 1<<31-1), "it has 2147483647 x 2147483647 pixels, at most 8000 x 8000 are allowed"},
		"empty":             {nil, "it is empty"},
		"a text":            {[]byte("secret text"), "it is neither JPEG nor PNG"},
		"GIF":               {[]byte("GIF89a secret"), "it is neither JPEG nor PNG"},
		"three bytes":       {jpegMagic, "its header is unreadable"},
		"the magic of PNG":  {pngMagic, "its header is unreadable"},
		"PNG, cut off soon": {png[:20], "its header is unreadable"},
	} {
		t.Run(name, func(t *testing.T) {
			file, err := NewFile(bytes.NewReader(tt.data), int64(len(tt.data)))
			var got string
			if err != nil {
				got = err.Error()
			} else {
				got = file.ContentType
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
