package jumio

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"image/png"
	"io"
)

// Limits of an upload (guide, "API", "Request Body").
const (
	fileLimit     = 10 << 20 // bytes
	fileSideLimit = 8000     // pixels
)

// File is an image that may be uploaded.
type File struct {
	// ContentType is image/jpeg or image/png.
	ContentType string
	// Size is in bytes.
	Size    int64
	content io.ReaderAt
}

// NewFile checks that content, of size bytes, is within the guide's limits: JPEG or PNG
// by content, at most 10 MB (10,485,760 bytes) and 8000 x 8000 pixels. It reads no more
// than the image's header. The error holds nothing of the content.
func NewFile(content io.ReaderAt, size int64) (*File, error) {
	switch {
	case size <= 0:
		return nil, errors.New("it is empty")
	case size > fileLimit:
		return nil, fmt.Errorf("it has %d bytes, at most %d are allowed", size, fileLimit)
	}
	f := &File{Size: size, content: content}
	start := make([]byte, 24) // as far as a PNG's dimensions
	n, err := io.NewSectionReader(content, 0, size).ReadAt(start, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, errors.New("it cannot be read")
	}
	switch start = start[:n]; {
	case bytes.HasPrefix(start, jpegMagic):
		f.ContentType = typeJPEG
	case bytes.HasPrefix(start, pngMagic):
		f.ContentType = typePNG
	default:
		return nil, errors.New("it is neither JPEG nor PNG")
	}
	width, height, err := f.measure(start)
	switch {
	case err != nil:
		return nil, errors.New("its header is unreadable")
	case width > fileSideLimit || height > fileSideLimit:
		return nil, fmt.Errorf("it has %d x %d pixels, at most %d x %d are allowed", width, height, fileSideLimit, fileSideLimit)
	}
	return f, nil
}

// measure gives the dimensions; 0 for those of a rare variant of JPEG.
func (f *File) measure(start []byte) (width, height int64, err error) {
	content := io.NewSectionReader(f.content, 0, f.Size)
	var cfg image.Config
	if f.ContentType == typePNG {
		cfg, err = png.DecodeConfig(content)
		if _, rare := errors.AsType[png.UnsupportedError](err); rare {
			return int64(binary.BigEndian.Uint32(start[16:])), int64(binary.BigEndian.Uint32(start[20:])), nil
		}
	} else {
		cfg, err = jpeg.DecodeConfig(content)
		if _, rare := errors.AsType[jpeg.UnsupportedError](err); rare {
			return 0, 0, nil
		}
	}
	return int64(cfg.Width), int64(cfg.Height), err
}

func (f *File) extension() string {
	if f.ContentType == typePNG {
		return ".png"
	}
	return ".jpg"
}
