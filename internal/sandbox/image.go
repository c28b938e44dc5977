package sandbox

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"image/jpeg"
	"image/png"
	"math/rand/v2"
	"sync"

	"golang.org/x/sync/singleflight"
)

// format of a part's content, by its media type.
type format string

const (
	formatJPEG   format = "image/jpeg"
	formatPNG    format = "image/png"
	formatBinary format = "application/octet-stream"
)

// facemapBytes is the usual size of a facemap.
const facemapBytes = 48 << 10

// imageCache keeps drawn images, bounded in bytes; the oldest leave first.
type imageCache struct {
	drawing singleflight.Group

	mu    sync.Mutex
	limit int
	size  int
	order []string
	files map[string][]byte
}

func newImageCache(limit int) *imageCache {
	return &imageCache{limit: limit, files: map[string][]byte{}}
}

// get returns the file of that name, made at most once at a time.
func (c *imageCache) get(name string, draw func() ([]byte, error)) ([]byte, error) {
	c.mu.Lock()
	file, ok := c.files[name]
	c.mu.Unlock()
	if ok {
		return file, nil
	}
	made, err, _ := c.drawing.Do(name, func() (any, error) {
		file, err := draw()
		if err == nil {
			c.keep(name, file)
		}
		return file, err
	})
	if err != nil {
		return nil, err
	}
	return made.([]byte), nil
}

func (c *imageCache) keep(name string, file []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.files[name]; ok || len(file) > c.limit {
		return
	}
	c.files[name] = file
	c.order = append(c.order, name)
	for c.size += len(file); c.size > c.limit; c.order = c.order[1:] {
		c.size -= len(c.files[c.order[0]])
		delete(c.files, c.order[0])
	}
}

// image returns the part's file: the same bytes for the same seed, always.
func (s *Sandbox) image(p *part) ([]byte, error) {
	file, err := s.images.get(p.key.credential+"/"+p.key.classifier, func() ([]byte, error) { return s.makeImage(p) })
	if err != nil {
		return nil, fmt.Errorf("sandbox: image %s of credential %s: %w", p.key.classifier, p.key.credential, err)
	}
	p.journey.mu.Lock()
	defer p.journey.mu.Unlock()
	if !p.drawn {
		p.drawn, p.size, p.sha256 = true, len(file), sha256.Sum256(file)
	}
	return file, nil
}

func (s *Sandbox) makeImage(p *part) ([]byte, error) {
	rng := rand.New(rand.NewPCG(s.cfg.Seed^partSeed, p.journey.Index<<8|uint64(p.number())))
	if p.format == formatBinary {
		return makeFacemap(rng, p, s.cfg.ImageBytes), nil
	}
	file, err := s.picture(p)
	if err != nil {
		return nil, err
	}
	comment := fmt.Sprintf("Drawn by the callbackd sandbox. SPECIMEN. workflow execution %s, credential %s, %s",
		p.journey.WorkflowExecutionID, p.key.credential, p.key.classifier)
	if p.format == formatPNG {
		return padPNG(file, comment, s.cfg.ImageBytes, rng), nil
	}
	return padJPEG(file, comment, s.cfg.ImageBytes, rng), nil
}

// partSeed keeps the random stream of images apart from that of journeys.
const partSeed = 0x6a756d696f

// number counts the journey's parts from 0.
func (p *part) number() int {
	for i, other := range p.journey.parts {
		if other == p {
			return i
		}
	}
	return len(p.journey.parts)
}

// picture draws and encodes. With FastImages all parts of the same sort share
// one picture that shows nobody in particular, so that it does not depend on
// who asks first.
func (s *Sandbox) picture(p *part) ([]byte, error) {
	if !s.cfg.FastImages {
		return encode(p.format, specimenOf(p))
	}
	subject := specimenOf(p).anonymous()
	return s.images.get(fmt.Sprintf("%s %s %s", subject.paper.kind, p.key.classifier, p.format), func() ([]byte, error) {
		return encode(p.format, subject)
	})
}

func encode(f format, subject specimen) ([]byte, error) {
	picture, err := subject.draw()
	if err != nil {
		return nil, err
	}
	var file bytes.Buffer
	if f == formatPNG {
		encoder := png.Encoder{CompressionLevel: png.BestSpeed}
		err = encoder.Encode(&file, picture)
	} else {
		err = jpeg.Encode(&file, picture, &jpeg.Options{Quality: 82})
	}
	return file.Bytes(), err
}

// makeFacemap is a binary blob that is no picture.
func makeFacemap(rng *rand.Rand, p *part, size int) []byte {
	file := append([]byte("FACEMAP\x00\x01SPECIMEN "), p.key.credential...)
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
