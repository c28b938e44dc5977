package demo

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"callbackd/internal/sandbox"
	"callbackd/internal/store/storetest"
)

// TestProblems: whatever is not as expected is named.
func TestProblems(t *testing.T) {
	image := sandbox.Image{CredentialID: "c", Classifier: "FRONT", SHA256: "ab"}
	sum := sha256.Sum256([]byte("x"))
	good := func() *report {
		return &report{
			journeys: []Journey{{Kind: "passed-passport"}},
			expected: []sandbox.Entry{{WorkflowExecutionID: "11111111-1", Expected: sandbox.Expected{State: "retrieved", Images: []sandbox.Image{image}}}},
			rows:     []row{{ID: "11111111-1", State: "retrieved", Images: []string{"c FRONT ab"}}},
			image:    &storedImage{Data: []byte("x"), SHA256: sum[:]},
			forged:   forgery{status: 403},
			rejected: rejectedCallback{Address: forgerAddress, Reason: "address_not_allowed"},
		}
	}
	for name, test := range map[string]struct {
		spoil func(*report)
		want  []string
	}{
		"as expected":  {func(*report) {}, nil},
		"not received": {func(r *report) { r.rows = nil }, []string{"user-1001 (passed-passport) was not received"}},
		"other state":  {func(r *report) { r.rows[0].State = "failed" }, []string{"user-1001 (passed-passport) is failed instead of retrieved"}},
		"lost, recovered": {func(r *report) {
			r.journeys[0].Faults, r.rows[0].Expectation = []string{lostCallback}, "recovered"
		}, nil},
		"lost, not recovered": {func(r *report) {
			r.journeys[0].Faults, r.rows[0].Expectation = []string{lostCallback}, "answered"
		}, []string{"user-1001 (passed-passport) was not recovered"}},
		"image missing":     {func(r *report) { r.rows[0].Images = nil }, []string{"user-1001 (passed-passport) has other images than the stand-in served"}},
		"bytes spoilt":      {func(r *report) { r.image.Data = []byte("y") }, []string{"an image's bytes do not have its SHA-256"}},
		"no image":          {func(r *report) { r.image = nil }, nil},
		"image spoilt":      {func(r *report) { r.rows[0].Images[0] = "c FRONT cd" }, []string{"user-1001 (passed-passport) has other images than the stand-in served"}},
		"forgery accepted":  {func(r *report) { r.forged.status = 200 }, []string{"the forged callback got 200"}},
		"not kept":          {func(r *report) { r.rejected = rejectedCallback{} }, []string{"the forged callback got 403, kept as from \"\""}},
		"rejected as Jumio": {func(r *report) { r.rejected.Address = jumioAddress }, []string{"the forged callback got 403, kept as from \"34.202.241.227\""}},
	} {
		t.Run(name, func(t *testing.T) {
			r := good()
			test.spoil(r)
			if diff := cmp.Diff(test.want, r.problems()); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
}

// TestProgress: bars redrawn in place on a terminal; elsewhere a line a
// second at most, and one at the end.
func TestProgress(t *testing.T) {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	show := func(live bool) string {
		var out bytes.Buffer
		p := &progress{out: &out, live: live, all: counts{received: 4, finished: 4, images: 8}}
		p.show(counts{received: 1}, false, at)
		p.show(counts{received: 2}, false, at.Add(999*time.Millisecond))
		p.show(counts{received: 2, finished: 1}, false, at.Add(time.Second))
		p.show(counts{received: 2, finished: 1}, false, at.Add(3*time.Second))
		p.show(counts{4, 4, 8}, true, at.Add(3*time.Second))
		return out.String()
	}
	plain := "  received 1 of 4, finished 0 of 4, images 0 of 8\n" +
		"  received 2 of 4, finished 1 of 4, images 0 of 8\n" +
		"  received 4 of 4, finished 4 of 4, images 8 of 8\n"
	if diff := cmp.Diff(plain, show(false)); diff != "" {
		t.Errorf("plain (-want +got):\n%s", diff)
	}
	live := show(true)
	first, rest, _ := strings.Cut(live, "\x1b[3A")
	bar := func(full int) string { return "[" + strings.Repeat("#", full) + strings.Repeat(".", 40-full) + "]" }
	if want := "\r\x1b[K  received  " + bar(10) + " 1 of 4\n\r\x1b[K  finished  " + bar(0) + " 0 of 4\n\r\x1b[K  images    " + bar(0) + " 0 of 8\n"; first != want {
		t.Errorf("first drawing %q, want %q", first, want)
	}
	if strings.Count(rest, "\x1b[3A") != 3 || strings.Count(rest, "\n") != 4*3 || !strings.HasSuffix(rest, bar(40)+" 8 of 8\n") {
		t.Errorf("further drawings %q", rest)
	}
}

// wideReport holds the longest values that there can be.
func wideReport(t *testing.T) *report {
	t.Helper()
	var picture bytes.Buffer
	red := image.NewUniform(color.NRGBA{R: 200, A: 255})
	if err := png.Encode(&picture, crop{red, image.Rect(0, 0, 480, 640)}); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(picture.Bytes())
	milliseconds := int64(45000)
	r := &report{
		journeys: Journeys(), forged: forgery{status: 403}, rejected: rejectedCallback{forgerAddress, "address_not_allowed"},
		image: &storedImage{"20", "FRONT_WITH_FLASH", "image/png", 480, 640, sum[:], picture.Bytes()},
	}
	for i := range r.journeys {
		id := fmt.Sprint(i + 1)
		r.expected = append(r.expected, sandbox.Entry{WorkflowExecutionID: id})
		r.rows = append(r.rows, row{
			ID: id, UserReference: userReference(i), Document: "DRIVING_LICENSE", Status: "SESSION_EXPIRED",
			Decision: []string{"PASSED", "WARNING", "REJECTED", ""}[i%4], Reason: "imageChecks GHOST_IMAGE_DIFFERENT", Meaning: "The picture of the face on the document differs from the small one beside it; trying again does not help.",
			State: "not_required", Error: "not_found: image answered 404 (1 of 4 images missing)", Attempts: 10, Images: make([]string, 10),
			Milliseconds: &milliseconds, Expectation: "recovered", Asked: 8, Seconds: 4999.9,
		})
	}
	return r
}

type crop struct {
	image.Image
	bounds image.Rectangle
}

func (c crop) Bounds() image.Rectangle { return c.bounds }

var escape = regexp.MustCompile("\x1b\\[[0-9;]*m")

// TestPrint: 80 columns at most; decisions differ by colour and without it.
func TestPrint(t *testing.T) {
	for name, test := range map[string]struct {
		terminal terminal
		want     []string
		escapes  bool
	}{
		"plain":   {terminal{}, []string{"  PASSED   not", "! WARNING  not", "X REJECTED not", "  -        not"}, false},
		"colours": {terminal{colours: true}, []string{green + "  PASSED  " + reset, yellow + "! WARNING " + reset, red + "X REJECTED" + reset}, true},
		"images":  {terminal{images: true}, []string{"▀" + reset}, true},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			d := &demo{Options: Options{Out: &out}, dir: t.TempDir(), terminal: test.terminal}
			r := wideReport(t)
			if err := d.print(r); err != nil {
				t.Fatal(err)
			}
			for _, text := range append(test.want, userReference(19)+"  the details are never available",
				userReference(1)+"  recovered  4999.9 s after its start, asked 8 x: SESSION_EXPIRED", "SHA-256 "+fmt.Sprintf("%x", r.image.SHA256[:8])+"... intact") {
				if !strings.Contains(out.String(), text) {
					t.Errorf("%q is missing in:\n%s", text, out.String())
				}
			}
			if strings.Contains(out.String(), "\x1b") != test.escapes {
				t.Errorf("escape sequences: %q", out.String())
			}
			for line := range strings.Lines(escape.ReplaceAllString(out.String(), "")) {
				if width := utf8.RuneCountInString(line) - 1; width > 80 && !strings.Contains(line, d.dir) {
					t.Errorf("%d columns: %s", width, line)
				}
			}
			path := strings.TrimSpace(regexp.MustCompile(`(?m)^  /.*$`).FindString(out.String()))
			if written, err := os.ReadFile(path); err != nil || !bytes.Equal(written, r.image.Data) {
				t.Errorf("the file %q is not the image: %v", path, err)
			}
		})
	}
}

// TestReceipt: 80 columns at most, and what went wrong is said.
func TestReceipt(t *testing.T) {
	t.Parallel()
	r := &receipt{state: "done", took: 812 * time.Millisecond, answers: []struct{ Status int }{{500}, {200}}, deleted: map[string]int{
		"callbacks": 2, "capabilities": 8, "credentials": 2, "details": 1, "events": 4, "expectations": 1, "extracted_documents": 1, "images": 2, "mentions": 1,
	}}
	want := `
Erased, as user-1003 has asked for (the receipt is in jumio.erasures):
  done after 0.8 s; first at Jumio, which answered 200
  deleted: 2 callbacks, 8 capabilities, 2 credentials, 1 details, 4 events, 1
    expectations, 1 extracted documents, 2 images, 1 mentions
  left in the views: 0 rows, beside the id with the stage and event erased
`
	if d := cmp.Diff(want, r.text("user-1003", 0)); d != "" {
		t.Errorf("receipt (-want +got):\n%s", d)
	}
	failed := (&receipt{state: "failed", error: "server_error: Jumio answered 500"}).text("user-1003", 7)
	for _, text := range []string{"  failed after 0.0 s\n", "  server_error: Jumio answered 500\n", "  left in the views: 7 rows"} {
		if !strings.Contains(failed, text) {
			t.Errorf("%q is missing in:\n%s", text, failed)
		}
	}
}

// TestTerminal: a buffer and a file that is no terminal show neither colours nor
// drawings.
func TestTerminal(t *testing.T) {
	file, err := os.Create(t.TempDir() + "/out")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, out := range []interface{ Write([]byte) (int, error) }{new(bytes.Buffer), file} {
		if got := newTerminal(out, []string{"COLORTERM=truecolor"}); got != (terminal{}) {
			t.Errorf("%T: %+v", out, got)
		}
	}
	for name, test := range map[string]struct {
		environ []string
		want    terminal
	}{
		"colours":         {nil, terminal{live: true, colours: true}},
		"drawings":        {[]string{"COLORTERM=truecolor"}, terminal{true, true, true}},
		"NO_COLOR":        {[]string{"COLORTERM=truecolor", "NO_COLOR=1"}, terminal{live: true}},
		"an empty one":    {[]string{"NO_COLOR="}, terminal{live: true, colours: true}},
		"a dumb terminal": {[]string{"TERM=dumb", "COLORTERM=truecolor"}, terminal{}},
	} {
		if got := terminalOf(true, test.environ); got != test.want {
			t.Errorf("%s: %+v, want %+v", name, got, test.want)
		}
	}
}

// closeAt calls close once the text has been written.
type closeAt struct {
	text    string
	written strings.Builder
	close   func()
}

func (c *closeAt) Write(p []byte) (int, error) {
	c.written.Write(p)
	if c.close != nil && strings.Contains(c.written.String(), c.text) {
		c.close()
		c.close = nil
	}
	return len(p), nil
}

// TestInstanceEnds: the demo does not go on without callbackd.
func TestInstanceEnds(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	out := &closeAt{text: "Ctrl-C"}
	d := &demo{terminal: newTerminal(out, nil), Options: Options{
		Environ: []string{"DATABASE_URL=" + storetest.NewDatabase(t)}, Out: out, Journeys: []Journey{{Kind: "passed-passport"}}, Seed: 7, Timeout: 5 * time.Minute,
	}}
	out.close = func() { _ = d.instance.CallbackListener().Close() }
	if err := d.run(t.Context()); err == nil || strings.Count(err.Error(), "serve on the callback listener") != 1 {
		t.Errorf("error %v, want that of the listener, once", err)
	}
}
