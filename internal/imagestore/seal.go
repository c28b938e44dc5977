package imagestore

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"strings"

	"filippo.io/age"
)

// The sizes of age's payload (age-encryption.org/v1, "Payload"): chunks of 64 KiB, each
// with a tag.
const (
	chunkSize = 64 << 10
	tagSize   = 16
)

// Sealer encrypts images to recipients, whose public keys are all that it has. A nil
// Sealer leaves them as they are.
type Sealer struct {
	recipients []age.Recipient
	keys       string
	overhead   int64 // of an empty file
}

// NewSealer returns nil for no recipients.
func NewSealer(recipients []age.Recipient) (*Sealer, error) {
	if len(recipients) == 0 {
		return nil, nil //nolint:nilnil // a nil Sealer works
	}
	s := &Sealer{recipients: recipients}
	empty, err := age.EncryptReader(bytes.NewReader(nil), recipients...)
	if err == nil {
		s.overhead, err = io.Copy(io.Discard, empty)
	}
	if err != nil {
		return nil, fmt.Errorf("encrypt to the recipients: %w", err)
	}
	var names []string
	for _, r := range recipients {
		names = append(names, fmt.Sprint(r)+"\n")
	}
	slices.Sort(names)
	sum := sha256.Sum256([]byte(strings.Join(slices.Compact(names), "")))
	s.keys = hex.EncodeToString(sum[:8])
	return s, nil
}

// Keys names the set of recipients: the first 16 hexadecimal digits of SHA-256 over them,
// sorted, each with a newline. Empty for none.
func (s *Sealer) Keys() string {
	if s == nil {
		return ""
	}
	return s.keys
}

// Seal returns what is to be stored of an image, and its size. It is encrypted while it is
// read, so that there is no second copy in memory.
func (s *Sealer) Seal(plain []byte) (content io.Reader, size int64, err error) {
	size = int64(len(plain))
	content = bytes.NewReader(plain) // which minio-go can read again
	if s == nil {
		return content, size, nil
	}
	if content, err = age.EncryptReader(content, s.recipients...); err != nil {
		return nil, 0, fmt.Errorf("encrypt an image: %w", err)
	}
	// The empty file has one chunk, too.
	chunks := max(1, (size+chunkSize-1)/chunkSize)
	return content, s.overhead + size + (chunks-1)*tagSize, nil
}

// Unseal returns the image in an age file. An error, also while it is read, is one of
// age's, which names no key.
func Unseal(content io.Reader, identities []age.Identity) (io.Reader, error) {
	plain, err := age.Decrypt(content, identities...)
	if err != nil {
		return nil, fmt.Errorf("decrypt an image: %w", err)
	}
	return plain, nil
}
