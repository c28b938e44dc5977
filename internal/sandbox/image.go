package sandbox

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"

	"golang.org/x/sync/singleflight"

	"callbackd/internal/sandbox/journey"
	"callbackd/internal/sandbox/specimen"
)

// imageCache keeps drawn images, bounded in bytes; when it is full, all leave.
type imageCache struct {
	drawing singleflight.Group

	mu    sync.Mutex
	limit int
	size  int
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
	if c.size += len(file); c.size > c.limit {
		clear(c.files)
		c.size = len(file)
	}
	c.files[name] = file
}

// image returns the part's file: the same bytes for the same seed, always.
func (s *Sandbox) image(p *part) ([]byte, error) {
	file, err := s.images.get(p.Credential+"/"+p.Classifier, func() ([]byte, error) { return s.makeImage(p) })
	if err != nil {
		return nil, fmt.Errorf("sandbox: image %s of credential %s: %w", p.Classifier, p.Credential, err)
	}
	p.journey.mu.Lock()
	defer p.journey.mu.Unlock()
	if !p.drawn {
		p.drawn, p.size, p.sha256 = true, len(file), sha256.Sum256(file)
	}
	return file, nil
}

func (s *Sandbox) makeImage(p *part) ([]byte, error) {
	rng := rand.New(rand.NewPCG(s.cfg.Seed^partSeed, p.journey.Index<<8|uint64(slices.Index(p.journey.parts, p))))
	if p.ContentType == journey.Binary {
		return specimen.Facemap(rng, p.Credential, s.cfg.ImageBytes), nil
	}
	file, err := s.picture(p)
	if err != nil {
		return nil, err
	}
	comment := fmt.Sprintf("Drawn by the callbackd sandbox. SPECIMEN. workflow execution %s, credential %s, %s",
		p.journey.WorkflowExecutionID, p.Credential, p.Classifier)
	return specimen.Pad(rng, file, p.ContentType, comment, s.cfg.ImageBytes), nil
}

// partSeed keeps the random stream of images apart from that of journeys.
const partSeed = 0x6a756d696f

// picture draws and encodes. With FastImages all parts of the same sort share
// one picture that shows nobody in particular, so that it does not depend on
// who asks first.
func (s *Sandbox) picture(p *part) ([]byte, error) {
	if !s.cfg.FastImages {
		return specimen.Of(p.Part).Encode(p.ContentType)
	}
	subject := specimen.Of(p.Part).Anonymous()
	return s.images.get(fmt.Sprintf("%s %s %s", subject.Document.Kind, p.Classifier, p.ContentType), func() ([]byte, error) {
		return subject.Encode(p.ContentType)
	})
}
