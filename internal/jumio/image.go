package jumio

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"image"
	"image/jpeg"
	"image/png"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"

	"callbackd/internal/callback"
)

// Image is the content of a part.
type Image struct {
	// ContentType is image/jpeg or image/png, or for a facemap one of facemapTypes.
	ContentType string
	SHA256      [sha256.Size]byte
	// Width and Height are in pixels; 0 if unknown.
	Width, Height int
	// Data holds the bytes as sent.
	Data []byte
}

const (
	typeJPEG   = "image/jpeg"
	typePNG    = "image/png"
	typeBinary = "application/octet-stream"
)

// facemapTypes are the media types of facemaps that are not images. Jumio says only
// that they are binary, so these are binary types that no browser runs. The second is
// S3's default.
var facemapTypes = []string{typeBinary, "binary/octet-stream", "application/zip", "application/x-facetec"}

// The largest dimensions, far beyond any camera's. They bound what a header can make a
// reader allocate, and fit Postgres' integer.
const (
	maxSide   = 100_000
	maxPixels = 1_000_000_000
)

// The bytes that the formats begin and end with.
var (
	jpegMagic = []byte("\xff\xd8\xff")
	jpegEnd   = []byte("\xff\xd9")
	pngMagic  = []byte("\x89PNG\r\n\x1a\n")
	pngEnd    = []byte("\x00\x00\x00\x00IEND\xae\x42\x60\x82")
)

// firstRead is the size of the first buffer: enough for most images, and all that a
// response costs that announces much and sends little.
const firstRead = 512 << 10

// Image gets a part's image (guide, "Get Images") from the data center of its
// workflow. It never holds more than MaxImageBytes and half a MiB. Errors are of type
// *Error.
func (c *Client) Image(ctx context.Context, dataCenter string, p Part) (*Image, error) {
	if !callback.ValidID(p.AccountID) || !callback.ValidID(p.CredentialID) || !callback.ValidID(p.Classifier) {
		e := failure(EndpointImage, CodeInvalidID, "no URL can be built from these ids")
		e.Verdict = SkipPart
		return nil, e
	}
	path := "/api/v1/accounts/" + p.AccountID + "/credentials/" + p.CredentialID + "/parts/" + p.Classifier
	var img *Image
	err := c.get(ctx, EndpointImage, dataCenter, path, acceptImage, func(resp *http.Response) (err error) {
		img, err = readImage(ctx, resp, p.IsFacemap(), c.cfg.MaxImageBytes)
		return err
	})
	if err != nil {
		return nil, err
	}
	c.metrics.imageBytes.Add(float64(len(img.Data)))
	return img, nil
}

func imageError(code, detail string) *Error { return contentError(EndpointImage, code, detail) }

// readImage reads and checks the image in a response.
func readImage(ctx context.Context, resp *http.Response, isFacemap bool, limit int64) (*Image, error) {
	if resp.ContentLength > limit {
		return nil, imageError(CodeImageTooLarge, "the Content-Length is over the limit")
	}
	hash := sha256.New()
	data, err := readBounded(io.TeeReader(resp.Body, hash), resp.ContentLength, limit)
	switch {
	case errors.Is(err, errNoProgress) || ctx.Err() != nil:
		return nil, err
	case err != nil || int64(len(data)) < resp.ContentLength:
		return nil, imageError(CodeImageTruncated, "the response broke off")
	case int64(len(data)) > limit:
		return nil, imageError(CodeImageTooLarge, "the body is over the limit")
	case len(data) == 0:
		return nil, imageError(CodeImageEmpty, "the body is empty")
	}
	img := &Image{Data: data}
	hash.Sum(img.SHA256[:0])
	if err := img.inspect(resp.Header.Get("Content-Type"), isFacemap); err != nil {
		return nil, err
	}
	return img, nil
}

// readBounded reads length bytes, or if that is unknown (-1) up to limit + 1. Its buffer
// grows in one step, so that it never holds much more than limit.
func readBounded(r io.Reader, length, limit int64) ([]byte, error) {
	if length < 0 {
		length = limit + 1
	}
	buf := make([]byte, min(length, firstRead))
	n := 0
	for {
		m, err := r.Read(buf[n:])
		n += m
		switch {
		case errors.Is(err, io.EOF), int64(n) == length:
			return buf[:n], nil
		case err != nil:
			return nil, err
		}
		if n == len(buf) {
			whole := make([]byte, length)
			copy(whole, buf)
			buf = whole
		}
	}
}

// inspect checks that the content is complete and what its header says. It sets
// ContentType, Width and Height.
func (i *Image) inspect(contentType string, isFacemap bool) error {
	header, _, err := mime.ParseMediaType(contentType)
	switch {
	case contentType == "":
		header = typeBinary
	case err != nil && !errors.Is(err, mime.ErrInvalidMediaParameter):
		return imageError(CodeImageType, "the Content-Type is unreadable")
	case header == "image/jpg" || header == "image/pjpeg":
		header = typeJPEG
	}
	content := ""
	switch {
	case bytes.HasPrefix(i.Data, jpegMagic):
		content = typeJPEG
	case bytes.HasPrefix(i.Data, pngMagic):
		content = typePNG
	}
	switch {
	case header == typeJPEG || header == typePNG:
		if content != header {
			return imageError(CodeImageType, "the content contradicts the Content-Type")
		}
	case !isFacemap:
		return imageError(CodeImageType, "the Content-Type is neither JPEG nor PNG")
	case !slices.Contains(facemapTypes, header):
		return imageError(CodeImageType, "the Content-Type is not a facemap's")
	case isDocument(i.Data):
		return imageError(CodeImageType, "a text or document instead of a facemap")
	}
	i.ContentType = header
	if content != "" {
		i.ContentType = content
		return i.measure()
	}
	return nil
}

// isDocument recognizes text (HTML, XML, JSON, a script, …) and PDF.
func isDocument(data []byte) bool {
	content := http.DetectContentType(data)
	return strings.HasPrefix(content, "text/") || content == "application/pdf"
}

// measure sets the dimensions of a JPEG or PNG and looks for its end. It does not
// decode the image, which would cost memory in proportion to its dimensions.
func (i *Image) measure() error {
	var cfg image.Config
	var err error
	end := jpegEnd
	if i.ContentType == typePNG {
		cfg, err = png.DecodeConfig(bytes.NewReader(i.Data))
		end = pngEnd
	} else {
		cfg, err = jpeg.DecodeConfig(bytes.NewReader(i.Data))
	}
	// Only the second half is searched: a camera may append something to the end,
	// and a thumbnail near the beginning has an end of its own.
	if !bytes.Contains(i.Data[len(i.Data)/2:], end) {
		return imageError(CodeImageTruncated, "the end of the image is missing")
	}
	var badJPEG jpeg.UnsupportedError
	var badPNG png.UnsupportedError
	switch {
	case errors.As(err, &badPNG):
		// A rare variant, or a size that DecodeConfig cannot multiply. It has read
		// the whole header chunk (PNG, section 11.2.1).
		return checkSize(int64(binary.BigEndian.Uint32(i.Data[16:])), int64(binary.BigEndian.Uint32(i.Data[20:])))
	case errors.As(err, &badJPEG):
		return nil // a rare variant, not a broken one; a side has 16 bits
	case err != nil:
		return imageError(CodeImageBroken, "the image's header is unreadable")
	}
	i.Width, i.Height = cfg.Width, cfg.Height
	return checkSize(int64(cfg.Width), int64(cfg.Height))
}

// checkSize rejects dimensions, in pixels, that no camera makes.
func checkSize(width, height int64) error {
	if width > maxSide || height > maxSide || width*height > maxPixels {
		return imageError(CodeImageBroken, "the header names an impossible size")
	}
	return nil
}
