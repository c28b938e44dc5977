package sandbox

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"

	"callbackd/internal/sandbox/journey"
	"callbackd/internal/sandbox/specimen"
)

// imageCache keeps drawn images, bounded in bytes; when it is full, it is emptied.
type imageCache struct {
	mu    sync.Mutex
	limit int
	size  int
	files map[string][]byte
}

// get returns the file of that name. At worst it is drawn more than once, with
// the same bytes.
func (c *imageCache) get(name string, draw func() []byte) []byte {
	c.mu.Lock()
	file, ok := c.files[name]
	c.mu.Unlock()
	if ok {
		return file
	}
	if file = draw(); len(file) > c.limit {
		return file
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.size += len(file) - len(c.files[name])
	if c.size > c.limit {
		clear(c.files)
		c.size = len(file)
	}
	c.files[name] = file
	return file
}

// image returns the part's file: what was uploaded, or else the same bytes for the
// same seed, always.
func (s *Sandbox) image(p *part) []byte {
	p.journey.mu.Lock()
	file := p.uploaded
	p.journey.mu.Unlock()
	if file != nil {
		return file
	}
	file = s.images.get(p.Credential+"/"+p.Classifier, func() []byte { return s.makeImage(p) })
	p.journey.mu.Lock()
	defer p.journey.mu.Unlock()
	if !p.drawn && p.uploaded == nil {
		p.drawn, p.size, p.sha256 = true, len(file), sha256.Sum256(file)
	}
	return file
}

func (s *Sandbox) makeImage(p *part) []byte {
	rng := rand.New(rand.NewPCG(s.cfg.Seed^partSeed, p.journey.Index<<8|uint64(slices.Index(p.journey.parts, p))))
	if p.ContentType == journey.Binary {
		return specimen.Facemap(rng, p.Credential, s.cfg.ImageBytes)
	}
	comment := fmt.Sprintf("Drawn by the callbackd sandbox. SPECIMEN. workflow execution %s, credential %s, %s",
		p.journey.WorkflowExecutionID, p.Credential, p.Classifier)
	return specimen.Pad(rng, s.picture(p), p.ContentType, comment, s.cfg.ImageBytes)
}

// partSeed keeps the random stream of images apart from that of journeys.
const partSeed = 0x6a756d696f

// picture draws and encodes. With FastImages all parts of the same sort share
// one picture that shows nobody in particular, so that it does not depend on
// who asks first.
func (s *Sandbox) picture(p *part) []byte {
	if !s.cfg.FastImages {
		return specimen.Of(p.Part).Encode(p.ContentType)
	}
	subject := specimen.Of(p.Part).Anonymous()
	return s.images.get(fmt.Sprintf("%s %s %s", subject.Document.Kind, p.Classifier, p.ContentType), func() []byte {
		return subject.Encode(p.ContentType)
	})
}
