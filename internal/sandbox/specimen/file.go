package specimen

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"image/jpeg"
	"image/png"
	"math/rand/v2"

	"callbackd/internal/sandbox/journey"
)

// facemapBytes is the usual size of a facemap.
const facemapBytes = 48 << 10

// Encode draws the picture as a JPEG or PNG file.
func (s Specimen) Encode(contentType string) ([]byte, error) {
	picture, err := s.draw()
	if err != nil {
		return nil, err
	}
	var file bytes.Buffer
	if contentType == journey.PNG {
		encoder := png.Encoder{CompressionLevel: png.BestSpeed}
		err = encoder.Encode(&file, picture)
	} else {
		err = jpeg.Encode(&file, picture, &jpeg.Options{Quality: 82})
	}
	return file.Bytes(), err
}

// Pad adds a comment to a JPEG or PNG file, and noise until it has the size in
// bytes. A larger file stays as it is, but for the comment.
func Pad(rng *rand.Rand, file []byte, contentType, comment string, size int) []byte {
	if contentType == journey.PNG {
		return padPNG(file, comment, size, rng)
	}
	return padJPEG(file, comment, size, rng)
}

// Facemap is a binary blob that is no picture, of at least that size.
func Facemap(rng *rand.Rand, credential string, size int) []byte {
	file := append([]byte("FACEMAP\x00\x01SPECIMEN "), credential...)
	return append(file, noise(rng, max(size, facemapBytes)-len(file))...)
}

// padJPEG adds the comment behind the start marker, and comment segments of
// noise until the file has the wanted size.
func padJPEG(file []byte, comment string, size int, rng *rand.Rand) []byte {
	const overhead, longest = 4, 65535 - 2 // marker and length; the length counts itself
	segment := func(out, content []byte) []byte {
		out = append(out, 0xff, 0xfe)
		out = binary.BigEndian.AppendUint16(out, uint16(len(content)+2))
		return append(out, content...)
	}
	out := make([]byte, 0, max(size, len(file)+len(comment)+overhead))
	out = append(out, file[:2]...)
	out = segment(out, []byte(comment))
	for missing := size - len(out) - (len(file) - 2); missing >= overhead; missing = size - len(out) - (len(file) - 2) {
		n := min(missing-overhead, longest)
		// What remains must be nothing, or room for another segment.
		if rest := missing - overhead - n; rest > 0 && rest < overhead {
			n -= overhead
		}
		out = segment(out, noise(rng, n))
	}
	return append(out, file[2:]...)
}

// padPNG adds the comment behind the header chunk, and one private chunk of
// noise that gives the file the wanted size.
func padPNG(file []byte, comment string, size int, rng *rand.Rand) []byte {
	const header, overhead = 8 + 25, 12 // signature and IHDR; length, type and CRC
	chunk := func(out []byte, name string, content []byte) []byte {
		out = binary.BigEndian.AppendUint32(out, uint32(len(content)))
		from := len(out)
		out = append(out, name...)
		out = append(out, content...)
		return binary.BigEndian.AppendUint32(out, crc32.ChecksumIEEE(out[from:]))
	}
	out := make([]byte, 0, max(size, len(file)+len(comment)+2*overhead))
	out = append(out, file[:header]...)
	out = chunk(out, "tEXt", []byte("Comment\x00"+comment))
	if missing := size - len(out) - (len(file) - header) - overhead; missing >= 0 {
		out = chunk(out, "paDd", noise(rng, missing))
	}
	return append(out, file[header:]...)
}

// noise is n random bytes, at least none.
func noise(rng *rand.Rand, n int) []byte {
	out := make([]byte, 0, max(0, n)+8)
	for len(out) < n {
		out = binary.LittleEndian.AppendUint64(out, rng.Uint64())
	}
	return out[:max(0, n)]
}
