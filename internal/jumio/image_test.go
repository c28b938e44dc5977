package jumio

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// drawing is 60 by 40 pixels that do not compress.
func drawing() image.Image {
	img := image.NewRGBA(image.Rect(0, 0, 60, 40))
	random := rand.New(rand.NewPCG(1, 2))
	for x := range 60 {
		for y := range 40 {
			img.Set(x, y, color.RGBA{uint8(random.Uint32()), uint8(random.Uint32()), uint8(random.Uint32()), 255})
		}
	}
	return img
}

func drawPNG(t *testing.T) []byte {
	t.Helper()
	var buf bytes.Buffer
	if err := png.Encode(&buf, drawing()); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func drawJPEG(t *testing.T) []byte {
	t.Helper()
	var buf bytes.Buffer
	if err := jpeg.Encode(&buf, drawing(), nil); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// pngOfSize changes what a PNG's header says.
func pngOfSize(data []byte, width, height uint32) []byte {
	header := binary.BigEndian.AppendUint32([]byte("IHDR"), width)
	header = binary.BigEndian.AppendUint32(header, height)
	header = append(header, data[24:29]...)
	header = binary.BigEndian.AppendUint32(header, crc32.ChecksumIEEE(header))
	return slices.Concat(data[:12], header, data[33:])
}

// jpegOfSize changes what a JPEG's header says.
func jpegOfSize(data []byte, side uint16) []byte {
	i := bytes.Index(data, []byte{0xff, 0xc0}) + 5
	size := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, side), side)
	return slices.Concat(data[:i], size, data[i+4:])
}

// TestImageContent is the table of what an image may be.
func TestImageContent(t *testing.T) {
	pngData, jpegData := drawPNG(t), drawJPEG(t)
	binary := append([]byte{0, 1, 2, 3, 0xfe, 0xff}, bytes.Repeat([]byte{7, 0, 9}, 500)...)
	html := []byte("<!DOCTYPE html><html><body>Maintenance</body></html>")
	cut := func(data []byte) []byte { return data[:len(data)*2/3] }
	// A JPEG whose arithmetic coding (SOF9) is real and rare.
	arithmetic := bytes.Replace(jpegData, []byte{0xff, 0xc0}, []byte{0xff, 0xc9}, 1)

	tests := map[string]struct {
		facemap     bool
		contentType string
		body        []byte
		code        string // "" if accepted
		wantType    string
		unmeasured  bool
	}{
		"JPEG":                                 {contentType: "image/jpeg", body: jpegData, wantType: "image/jpeg"},
		"PNG":                                  {contentType: "image/png", body: pngData, wantType: "image/png"},
		"JPEG under its other name":            {contentType: "image/jpg", body: jpegData, wantType: "image/jpeg"},
		"header in capitals, with a parameter": {contentType: "IMAGE/JPEG; charset=UTF-8", body: jpegData, wantType: "image/jpeg"},
		"JPEG with something behind its end":   {contentType: "image/jpeg", body: append(bytes.Clone(jpegData), "camera data"...), wantType: "image/jpeg"},
		"JPEG of a rare coding":                {contentType: "image/jpeg", body: arithmetic, wantType: "image/jpeg", unmeasured: true},
		"facemap as JPEG":                      {facemap: true, contentType: "image/jpeg", body: jpegData, wantType: "image/jpeg"},
		"facemap, JPEG without a type":         {facemap: true, contentType: "application/octet-stream", body: jpegData, wantType: "image/jpeg"},
		"facemap as binary data":               {facemap: true, contentType: "application/octet-stream", body: binary, wantType: "application/octet-stream", unmeasured: true},
		"facemap of another type":              {facemap: true, contentType: "application/x-facetec", body: binary, wantType: "application/x-facetec", unmeasured: true},

		"facemap as binary data of S3's type": {facemap: true, contentType: "binary/octet-stream", body: binary, wantType: "binary/octet-stream", unmeasured: true},
		"facemap as an archive":               {facemap: true, contentType: "application/zip", body: append([]byte("PK\x03\x04"), binary...), wantType: "application/zip", unmeasured: true},

		"PNG of 2^31-1 pixels a side":        {contentType: "image/png", body: pngOfSize(pngData, 1<<31-1, 1<<31-1), code: CodeImageBroken},
		"PNG of 2^31-1 by 1 pixels":          {contentType: "image/png", body: pngOfSize(pngData, 1<<31-1, 1), code: CodeImageBroken},
		"PNG of 2^32-1 by 1 pixels":          {contentType: "image/png", body: pngOfSize(pngData, 1<<32-1, 1), code: CodeImageBroken},
		"PNG of 1 by 100,001 pixels":         {contentType: "image/png", body: pngOfSize(pngData, 1, 100_001), code: CodeImageBroken},
		"PNG of over a gigapixel":            {contentType: "image/png", body: pngOfSize(pngData, 40_000, 25_001), code: CodeImageBroken},
		"JPEG of over a gigapixel":           {contentType: "image/jpeg", body: jpegOfSize(jpegData, 65_535), code: CodeImageBroken},
		"facemap: PNG of 2^31-1 pixels":      {facemap: true, contentType: "application/octet-stream", body: pngOfSize(pngData, 1<<31-1, 1<<31-1), code: CodeImageBroken},
		"facemap: binary that says script":   {facemap: true, contentType: "application/javascript", body: binary, code: CodeImageType},
		"facemap: JPEG that says script":     {facemap: true, contentType: "application/javascript", body: jpegData, code: CodeImageType},
		"facemap: SVG":                       {facemap: true, contentType: "image/svg+xml", body: []byte("<svg/>"), code: CodeImageType},
		"facemap: PDF":                       {facemap: true, contentType: "application/pdf", body: []byte("%PDF-1.7\x00"), code: CodeImageType},
		"facemap: script that says binary":   {facemap: true, contentType: "application/octet-stream", body: []byte("alert(1) // <script>"), code: CodeImageType},
		"facemap: XML that says binary":      {facemap: true, contentType: "application/octet-stream", body: []byte("<?xml version='1.0'?><a/>"), code: CodeImageType},
		"facemap: PDF that says binary":      {facemap: true, contentType: "application/octet-stream", body: []byte("%PDF-1.7\x00"), code: CodeImageType},
		"0 bytes":                            {contentType: "image/png", body: nil, code: CodeImageEmpty},
		"0 bytes of a facemap":               {facemap: true, contentType: "application/octet-stream", body: nil, code: CodeImageEmpty},
		"HTML with status 200":               {contentType: "text/html", body: html, code: CodeImageType},
		"HTML that says JPEG":                {contentType: "image/jpeg", body: html, code: CodeImageType},
		"JSON with status 200":               {contentType: "application/json", body: []byte(`{"status":404}`), code: CodeImageType},
		"JPEG that says PNG":                 {contentType: "image/png", body: jpegData, code: CodeImageType},
		"PNG that says JPEG":                 {contentType: "image/jpeg", body: pngData, code: CodeImageType},
		"JPEG that says HTML":                {contentType: "text/html", body: jpegData, code: CodeImageType},
		"JPEG without a type":                {contentType: "application/octet-stream", body: jpegData, code: CodeImageType},
		"unreadable type":                    {contentType: "image/", body: jpegData, code: CodeImageType},
		"another image format":               {contentType: "image/gif", body: []byte("GIF89a......"), code: CodeImageType},
		"binary data that is no facemap":     {contentType: "application/octet-stream", body: binary, code: CodeImageType},
		"facemap: HTML":                      {facemap: true, contentType: "text/html", body: html, code: CodeImageType},
		"facemap: HTML that says binary":     {facemap: true, contentType: "application/octet-stream", body: html, code: CodeImageType},
		"facemap: JSON":                      {facemap: true, contentType: "application/problem+json", body: []byte(`{"status":404}`), code: CodeImageType},
		"facemap: JSON that says binary":     {facemap: true, contentType: "application/octet-stream", body: []byte(` {"status":404}`), code: CodeImageType},
		"facemap: binary that says JPEG":     {facemap: true, contentType: "image/jpeg", body: binary, code: CodeImageType},
		"facemap: JPEG that says GIF":        {facemap: true, contentType: "image/gif", body: jpegData, code: CodeImageType},
		"JPEG cut off by the server":         {contentType: "image/jpeg", body: cut(jpegData), code: CodeImageTruncated},
		"PNG cut off by the server":          {contentType: "image/png", body: cut(pngData), code: CodeImageTruncated},
		"PNG without its last byte":          {contentType: "image/png", body: pngData[:len(pngData)-1], code: CodeImageTruncated},
		"JPEG cut off in its header":         {contentType: "image/jpeg", body: jpegData[:12], code: CodeImageTruncated},
		"facemap: PNG cut off":               {facemap: true, contentType: "application/octet-stream", body: cut(pngData), code: CodeImageTruncated},
		"JPEG with nothing between its ends": {contentType: "image/jpeg", body: []byte("\xff\xd8\xff\xd9\xff\xd9"), code: CodeImageBroken},
		"PNG with a broken header":           {contentType: "image/png", body: bytes.Replace(pngData, []byte("IHDR"), []byte("IXXX"), 1), code: CodeImageBroken},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := newServer(t, nil, answer(200, tt.contentType, string(tt.body)))
			part := frontPart
			if tt.facemap {
				part.Category, part.Classifier = "FACEMAP", "FACEMAP"
			}
			got, err := newClient(t, testConfig(s.URL)).Image(t.Context(), "amer-1", part)
			if tt.code != "" {
				if e := asError(t, err, tt.code); e.Verdict != SkipPart || got != nil {
					t.Errorf("verdict %d, image %v", e.Verdict, got)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			want := &Image{ContentType: tt.wantType, SHA256: sha256.Sum256(tt.body), Width: 60, Height: 40, Data: tt.body}
			if tt.unmeasured {
				want.Width, want.Height = 0, 0
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestImageWithoutContentType(t *testing.T) {
	jpegData := drawJPEG(t)
	s := newServer(t, nil, func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Content-Type"] = nil
		_, _ = w.Write(jpegData)
	})
	c := newClient(t, testConfig(s.URL))
	_, err := c.Image(t.Context(), "amer-1", frontPart)
	wantCode(t, err, CodeImageType)
	part := frontPart
	part.Classifier = "FACEMAP"
	if img, err := c.Image(t.Context(), "amer-1", part); err != nil || img.ContentType != "image/jpeg" {
		t.Errorf("facemap: %v", err)
	}
}

func TestImageTruncatedBody(t *testing.T) {
	data := drawPNG(t)
	s := newServer(t, nil, brokenOff("image/png", string(data)))
	c := newClient(t, testConfig(s.URL))
	_, err := c.Image(t.Context(), "amer-1", frontPart)
	if e := asError(t, err, CodeImageTruncated); e.Verdict != SkipPart {
		t.Errorf("verdict %d", e.Verdict)
	}
}

func TestImageChunksBreakOff(t *testing.T) {
	data := drawPNG(t)
	s := newServer(t, nil, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "image/png")
		_, _ = w.Write(data)
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	_, err := newClient(t, testConfig(s.URL)).Image(t.Context(), "amer-1", frontPart)
	wantCode(t, err, CodeImageTruncated)
}

// The largest size that is let through fits the database's integer.
func TestImageSizeLimit(t *testing.T) {
	for _, tt := range []struct {
		width, height uint32
		ok            bool
	}{
		{100_000, 10_000, true}, {10_000, 100_000, true}, {100_000, 10_001, false}, {100_001, 1, false}, {1 << 31, 1 << 31, false},
	} {
		if err := checkSize(int64(tt.width), int64(tt.height)); (err == nil) != tt.ok {
			t.Errorf("%d by %d: %v", tt.width, tt.height, err)
		}
	}
}

// TestImageLimit: with and without a Content-Length, below, at and above the
// limit, with bodies below and above the size of the first read.
func TestImageLimit(t *testing.T) {
	data := drawPNG(t)
	for _, limit := range []int{len(data), firstRead, 2*firstRead + 3} {
		for _, chunked := range []bool{false, true} {
			for _, over := range []int{-1, 0, 1, 1000} {
				size := max(limit+over, len(data))
				// A chunk of no meaning fills the image up to its size.
				body := append(bytes.Clone(data[:len(data)-len(pngEnd)]), make([]byte, size-len(data))...)
				body = append(body, pngEnd...)
				s := newServer(t, nil, func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Content-Type", "image/png")
					if chunked {
						_ = http.NewResponseController(w).Flush()
					}
					_, _ = w.Write(body)
				})
				cfg := testConfig(s.URL)
				cfg.MaxImageBytes = int64(limit)
				img, err := newClient(t, cfg).Image(t.Context(), "amer-1", frontPart)
				if size > limit {
					wantCode(t, err, CodeImageTooLarge)
					continue
				}
				if err != nil {
					t.Fatalf("limit %d, size %d, chunked %v: %v", limit, size, chunked, err)
				}
				if !bytes.Equal(img.Data, body) || img.SHA256 != sha256.Sum256(body) {
					t.Errorf("limit %d, size %d, chunked %v: other bytes", limit, size, chunked)
				}
			}
		}
	}
}

// TestImageDeclaredTooLarge: nothing of the body is waited for.
func TestImageDeclaredTooLarge(t *testing.T) {
	s := newServer(t, nil, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "image/png")
		w.Header().Set("Content-Length", "1099511627776")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	_, err := newClient(t, testConfig(s.URL)).Image(t.Context(), "amer-1", frontPart)
	wantCode(t, err, CodeImageTooLarge)
}

// TestReadBounded: a reader that gives one byte at a time, and the capacity that
// a long read ends with.
func TestReadBounded(t *testing.T) {
	const limit = 3 * firstRead
	for _, length := range []int64{limit, -1} {
		got, err := readBounded(strings.NewReader(strings.Repeat("x", limit)), length, limit)
		if err != nil || len(got) != limit || cap(got) > limit+1 {
			t.Errorf("length %d: got %d bytes in %d, %v", length, len(got), cap(got), err)
		}
	}
	broken := errors.New("broken")
	if _, err := readBounded(&oneByOne{left: 10, err: broken}, -1, limit); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	if got, err := readBounded(&oneByOne{left: 10, err: broken}, 10, limit); err != nil || len(got) != 10 {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
}

type oneByOne struct {
	left int
	err  error
}

func (r *oneByOne) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, r.err
	}
	r.left--
	p[0] = 'x'
	return 1, nil
}
