package sandbox

import (
	"net/http"
	"strings"
	"testing"
)

func TestUploadIsAsStrictAsTheGuide(t *testing.T) {
	s := start(t, Config{})
	c := login(t, s)
	a, j := c.create(initiationOf("3"))
	other, _ := c.create(initiationOf("3"))
	id, face := credentialOf(t, a, "ID"), credentialOf(t, a, "SELFIE")
	front := pathOf(id.API.Parts["front"])
	contentType, good := form(t, "file", pngOf(t, 40, 30))
	withForm := func(field string, content []byte) func(*http.Request) {
		return func(r *http.Request) {
			contentType, text := form(t, field, content)
			r.Header.Set("Content-Type", contentType)
			r.Body, r.ContentLength = body(text), int64(len(text))
		}
	}
	header := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	for _, tt := range []struct {
		name, path string
		change     func(*http.Request)
		want       int
	}{
		{"as in the guide", front, nil, 200},
		{"a JPEG of the largest size", front, withForm("file", jpegOf(t, 8000, 10)), 200},
		{"another text first", front, withForm("file", pngOf(t, 10, 10)), 200},
		{"too wide", front, withForm("file", jpegOf(t, 8001, 10)), 400},
		{"too high", front, withForm("file", pngOf(t, 1, 8001)), 400},
		{"too large", front, withForm("file", append(pngOf(t, 10, 10), make([]byte, maxUpload)...)), 400},
		{"no picture", front, withForm("file", []byte("GIF89a, or so")), 400},
		{"empty", front, withForm("file", nil), 400},
		{"another field", front, withForm("picture", pngOf(t, 10, 10)), 400},
		{"no form", front, header("Content-Type", "image/png"), 403},
		{"a form without a boundary", front, header("Content-Type", "multipart/form-data"), 400},
		{"no Content-Length", front, func(r *http.Request) { r.ContentLength = -1 }, 403},
		{"no Accept", front, header("Accept", ""), 403},
		{"no User-Agent", front, header("User-Agent", ""), 403},
		{"no token", front, header("Authorization", ""), 401},
		{"the access token", front, header("Authorization", "Bearer "+c.token), 401},
		{"the SDK's token", front, header("Authorization", "Bearer "+a.SDK.Token), 403},
		{"another credential's token", front, header("Authorization", "Bearer "+face.API.Token), 403},
		{"another workflow execution's token", front, header("Authorization", "Bearer "+credentialOf(t, other, "ID").API.Token), 403},
		{"another account", strings.Replace(front, j.AccountID, other.Account.ID, 1), nil, 404},
		{"another credential", strings.Replace(front, id.ID, face.ID, 1), nil, 404},
		{"another classifier", strings.Replace(front, "FRONT", "FACE", 1), nil, 404},
		{"lower case", strings.Replace(front, "FRONT", "front", 1), nil, 404},
		{"suspicious", strings.Replace(front, "FRONT", "FRONT%27", 1), nil, 403},
		{"PUT", front, func(r *http.Request) { r.Method = http.MethodPut }, 405},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := c.uploader(id).sending(http.MethodPost, tt.path, contentType, good)
			if tt.change != nil {
				tt.change(r)
			}
			c.wantAnswer(t, r, tt.want)
		})
	}
}

func TestFinalizeIsAsStrictAsTheGuide(t *testing.T) {
	s := start(t, Config{})
	c := login(t, s)
	a, _ := c.create(initiationOf("3"))
	id := credentialOf(t, a, "ID")
	path := pathOf(id.API.WorkflowExecution)
	for _, tt := range []struct {
		header, value string
		want          int
	}{
		{"Accept", "", 403},
		{"Content-Type", "text/plain", 403},
		{"User-Agent", "", 403},
		{"Authorization", "", 401},
		{"Authorization", "Bearer " + c.token, 401},
		{"Authorization", "Bearer " + a.SDK.Token, 403},
		{"Content-Type", "multipart/form-data", 200}, // the guide's example
	} {
		r := c.uploader(id).sending(http.MethodPut, path, "application/json", "")
		r.Header.Set(tt.header, tt.value)
		if status, answer, err := c.do(r); err != nil || status != tt.want {
			t.Errorf("%s %q: %d %s %v, want %d", tt.header, tt.value, status, answer, err, tt.want)
		}
	}
}

// A fault of an upload or finalization that refuses it leaves everything as it was.
func TestFaultsOfTheAcquisition(t *testing.T) {
	s := start(t, Config{})
	c := login(t, s)
	a, j := c.create(initiationOf("3", `"reportingCriteria":"fault=upload:500:1 fault=finalize:503:1"`))
	id := credentialOf(t, a, "ID")
	for _, want := range []int{500, 200} {
		if status, _ := c.upload(id, "front", pngOf(t, 4, 3)); status != want {
			t.Errorf("upload: %d, want %d", status, want)
		}
	}
	for _, want := range []int{503, 200} {
		if status, _ := c.finalize(id); status != want {
			t.Errorf("finalize: %d, want %d", status, want)
		}
	}
	if e := j.entry(); e.UploadRequests != (Hits{2, 1}) || e.FinalizeRequests != (Hits{2, 1}) {
		t.Errorf("ledger %+v", e)
	}
}
