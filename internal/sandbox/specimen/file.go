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
func (s Specimen) Encode(contentType string) []byte {
	var file bytes.Buffer // which takes everything
	if contentType == journey.PNG {
		encoder := png.Encoder{CompressionLevel: png.BestSpeed}
		_ = encoder.Encode(&file, s.draw())
	} else {
		_ = jpeg.Encode(&file, s.draw(), &jpeg.Options{Quality: 82})
	}
	return file.Bytes()
}

// Facemap is a binary blob that is no picture, of at least that size in bytes.
func Facemap(rng *rand.Rand, credential string, size int) []byte {
	file := append([]byte("FACEMAP\x00\x01SPECIMEN "), credential...)
	return append(file, noise(rng, max(size, facemapBytes)-len(file))...)
}

// Pad adds a comment to a JPEG or PNG file, and noise until it has the size in
// bytes. A larger file stays as it is, but for the comment.
func Pad(rng *rand.Rand, file []byte, contentType, comment string, size int) []byte {
	// The additions go behind the start marker of a JPEG; behind signature and
	// header chunk of a PNG.
	head, overhead, longest, add := 2, 4, 65535-2, addSegment
	if contentType == journey.PNG {
		head, overhead, longest, add = 8+25, 12, size, addChunk
	}
	out := make([]byte, 0, max(size, len(file)+len(comment)+64))
	out = add(append(out, file[:head]...), []byte(comment))
	for {
		room := size - len(out) - (len(file) - head) - overhead
		if room < 0 {
			return append(out, file[head:]...)
		}
		n := min(room, longest)
		// What remains must be nothing, or room for another addition.
		if rest := room - n; rest > 0 && rest < overhead {
			n -= overhead
		}
		out = add(out, noise(rng, n))
	}
}

// addSegment appends a JPEG's comment segment: marker, length (which counts
// itself) and content.
func addSegment(out, content []byte) []byte {
	out = append(out, 0xff, 0xfe)
	out = binary.BigEndian.AppendUint16(out, uint16(len(content)+2))
	return append(out, content...)
}

// addChunk appends a private chunk to a PNG: length, name, content and CRC.
func addChunk(out, content []byte) []byte {
	out = binary.BigEndian.AppendUint32(out, uint32(len(content)))
	from := len(out)
	out = append(append(out, "spEc"...), content...)
	return binary.BigEndian.AppendUint32(out, crc32.ChecksumIEEE(out[from:]))
}

// noise is n random bytes, or none when n is negative.
func noise(rng *rand.Rand, n int) []byte {
	out := make([]byte, 0, max(0, n)+8)
	for len(out) < n {
		out = binary.LittleEndian.AppendUint64(out, rng.Uint64())
	}
	return out[:max(0, n)]
}
