package main

import (
	"bytes"
	"image"
	"image/jpeg"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestUpload: the parts go where the answer says, by their own credential's token, once
// all is checked.
func TestUpload(t *testing.T) {
	s := newStandIn(t, answered(200, `{"api":{"token":"MARK-next"}}`))
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	var picture bytes.Buffer
	if err := jpeg.Encode(&picture, image.NewGray(image.Rect(0, 0, 8, 8)), nil); err != nil {
		t.Fatal(err)
	}
	front, text := write("front.jpg", picture.String()), write("text.jpg", "MARK")
	good := write("answer.json", creation(s.URL))
	foreign := write("foreign.json", strings.ReplaceAll(creation(s.URL), s.URL, "https://api.evil.example"))
	twice := write("twice.json", strings.ReplaceAll(creation(s.URL), `"DOCUMENT"`, `"ID"`))
	const at = "/api/v1/accounts/a1/workflow-executions/w1"
	for name, tt := range map[string]struct {
		args     []string
		stdin    string
		want     result // the line may end in * for any more
		requests []string
	}{
		"all": {
			args: []string{good, "ID:FRONT=" + front, "back=" + front, "DOCUMENT:FRONT=" + front, "FACE=" + front},
			want: result{0, "uploaded ID:FRONT\nuploaded BACK\nuploaded DOCUMENT:FRONT\nuploaded FACE\n", ""},
			requests: []string{
				"POST " + at + "/credentials/c1/parts/FRONT Bearer MARK-c1", "POST " + at + "/credentials/c1/parts/BACK Bearer MARK-c1",
				"POST " + at + "/credentials/c2/parts/FRONT Bearer MARK-c2", "POST " + at + "/credentials/c3/parts/FACE Bearer MARK-c3",
			},
		},
		"from stdin":        {args: []string{"-", "BACK=" + front}, stdin: creation(s.URL), want: result{0, "uploaded BACK\n", ""}, requests: []string{"POST " + at + "/credentials/c1/parts/BACK Bearer MARK-c1"}},
		"of two":            {args: []string{good, "BACK=" + front, "FRONT=" + front}, want: result{2, "", "callbackd: upload: several credentials have FRONT, want its category, one of ID:FRONT, DOCUMENT:FRONT; see `callbackd verification upload --help`\n"}},
		"of two alike":      {args: []string{twice, "ID:FRONT=" + front}, want: result{1, "", "callbackd: ID:FRONT: several credentials of category ID have this part, which this command cannot tell apart\n"}},
		"not asked for":     {args: []string{good, "BACK=" + front, "FACEMAP=" + front}, want: result{1, "", "callbackd: FACEMAP: the answer has no such part to upload\n"}},
		"a foreign address": {args: []string{foreign, "BACK=" + front}, want: result{1, "", "callbackd: BACK: foreign_href: upload: the href in the answer is not the one that its ids say\n"}},
		"wrong files": {
			args: []string{good, "BACK=" + front, "ID:FRONT=" + text, "FACE=" + filepath.Join(dir, "none.jpg"), "DOCUMENT:FRONT=" + dir},
			want: result{1, "", "callbackd: ID:FRONT: " + text + ": it is neither JPEG nor PNG\ncallbackd: FACE: open " + filepath.Join(dir, "none.jpg") + ": no such file or directory\ncallbackd: DOCUMENT:FRONT: " + dir + ": it is not a regular file\n"},
		},
		"no answer":      {args: []string{text, "BACK=" + front}, want: result{1, "", "callbackd: " + text + " is not an answer that create printed: the body is not a JSON object\n"}},
		"no file":        {args: []string{good, "FRONT"}, want: result{2, "", "callbackd: upload: \"FRONT\" is not a part and a file such as FRONT=front.jpg or ID:FRONT=front.jpg; see `callbackd verification upload --help`\n"}},
		"no part at all": {args: []string{good}, want: result{2, "", "callbackd: upload: missing argument PART=FILE...; see `callbackd verification upload --help`\n"}},
		"a part twice":   {args: []string{good, "BACK=" + front, "back=" + text}, want: result{2, "", "callbackd: upload: BACK is there twice; see `callbackd verification upload --help`\n"}},
	} {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			p := &process{s.environ(), strings.NewReader(tt.stdin), &stdout, &stderr}
			code := p.run(t.Context(), append([]string{"verification", "upload"}, tt.args...))
			if diff := cmp.Diff(tt.want, result{code, stdout.String(), stderr.String()}); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(tt.requests, s.requests()); diff != "" {
				t.Error(diff)
			}
		})
	}

	n := 0
	s.api = func(w http.ResponseWriter, r *http.Request) {
		if n++; n == 2 {
			w.WriteHeader(http.StatusUnauthorized)
		}
	}
	want := result{1, "uploaded BACK\n", "callbackd: FACE: unauthorized: upload answered 401\n"}
	if diff := cmp.Diff(want, callbackd(t, s.environ(), "verification", "upload", good, "BACK="+front, "FACE="+front, "ID:FRONT="+front)); diff != "" {
		t.Errorf("the second fails: %s", diff)
	}
	if n := len(s.requests()); n != 2 {
		t.Errorf("%d requests, want 2", n)
	}
}

// TestFinalize: one PUT without a body, by the first credential's token.
func TestFinalize(t *testing.T) {
	s := newStandIn(t, nil)
	s.api = func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer MARK-c1" || r.Header.Get("Content-Type") != "application/json" || r.ContentLength != 0 {
			t.Errorf("headers %v", r.Header)
		}
	}
	run := func(answer string) result {
		var stdout, stderr bytes.Buffer
		p := &process{s.environ(), strings.NewReader(answer), &stdout, &stderr}
		code := p.run(t.Context(), []string{"verification", "finalize", "-"})
		return result{code, stdout.String(), stderr.String()}
	}
	if diff := cmp.Diff(result{0, "finalized w1\n", ""}, run(creation(s.URL))); diff != "" {
		t.Error(diff)
	}
	want := result{1, "", "callbackd: foreign_href: finalize: the href in the answer is not the one that its ids say\n"}
	if diff := cmp.Diff(want, run(creation("http://api.amer-1.jumio.ai"))); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"PUT /api/v1/accounts/a1/workflow-executions/w1"}, s.requests()); diff != "" {
		t.Error(diff)
	}
	s.api = answered(404, "MARK")
	if diff := cmp.Diff(result{1, "", "callbackd: not_found: finalize answered 404\n"}, run(creation(s.URL))); diff != "" {
		t.Error(diff)
	}
}

// An upload on the command line has a classifier and a file.
func FuzzParseUpload(f *testing.F) {
	for _, seed := range []string{"FRONT=f.jpg", "ID:FRONT=a=b", "=", ":F=x", "a:b:c=d"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, arg string) {
		u, err := parseUpload(arg)
		if err != nil {
			return
		}
		if u.classifier == "" || u.path == "" || strings.ContainsAny(u.classifier, ":=") || !strings.HasSuffix(arg, "="+u.path) {
			t.Errorf("%q is %+v", arg, u)
		}
	})
}
