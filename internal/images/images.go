// Package images is what operators do with stored images: read one, move them out of the
// database, encrypt them anew, compare them with their objects.
//
// It needs no running worker, and runs beside them. Whoever reads an image leaves a row
// first.
package images

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"

	"filippo.io/age"
	"github.com/google/uuid"

	"callbackd/internal/imagestore"
	"callbackd/internal/store"
	"callbackd/internal/store/results"
)

var (
	// ErrNoIdentity means that an image is encrypted, and no key is there to read it.
	ErrNoIdentity = errors.New("the image is encrypted, and CALLBACKD_IMAGE_IDENTITY is empty")
	// ErrWrongIdentity means that the keys that are there cannot read it.
	ErrWrongIdentity = errors.New("the image is encrypted to other keys than those of CALLBACKD_IMAGE_IDENTITY")
	// ErrDamaged means that the bytes are not those of the image.
	ErrDamaged = errors.New("the stored bytes are not the image's")
)

// Archive is where images are, and what it takes to read and encrypt them.
type Archive struct {
	Results *results.Store
	// Store has the objects; nil if there is none.
	Store imagestore.Store
	// Identities read encrypted images.
	Identities []age.Identity
	// Sealer encrypts them; nil for no encryption.
	Sealer *imagestore.Sealer
}

// Image is one that is read. Reading it ends with ErrDamaged if it is not what was
// retrieved.
type Image struct {
	io.ReadCloser
	ContentType string
	SizeBytes   int64
}

// Open opens an image, and before that records who reads it. It returns store.ErrNotFound
// for an unknown image, imagestore.ErrNotFound if its object is missing, and ErrNoIdentity
// or ErrWrongIdentity.
func (a *Archive) Open(ctx context.Context, id uuid.UUID, r results.ImageRead) (*Image, error) {
	img, err := a.Results.GetImage(ctx, id)
	if err != nil {
		return nil, err
	}
	if err := a.readable(img); err != nil {
		return nil, err
	}
	if err := a.Results.RecordRead(ctx, id, r); err != nil {
		return nil, err
	}
	stored, err := a.stored(ctx, img)
	if err != nil {
		return nil, err
	}
	plain, err := a.plain(img, stored)
	if err != nil {
		_ = stored.Close() // read only
		return nil, err
	}
	return &Image{ReadCloser: &verified{stored, plain, sha256.New(), img.SHA256}, ContentType: img.ContentType, SizeBytes: img.SizeBytes}, nil
}

// readable reports what is missing to read an image.
func (a *Archive) readable(img *results.StoredImage) error {
	if img.Encrypted && len(a.Identities) == 0 {
		return ErrNoIdentity
	}
	switch {
	case img.StoredIn == results.InDatabase:
		return nil
	case a.Store == nil:
		return fmt.Errorf("the image is in an image store (%s), and CALLBACKD_IMAGE_STORE is empty", img.StoredIn)
	case a.Store.Kind() != img.StoredIn:
		return fmt.Errorf("the image is in an image store of the kind %s, and CALLBACKD_IMAGE_STORE is %s", img.StoredIn, a.Store.Kind())
	}
	return nil
}

// stored opens the stored bytes, as they are.
func (a *Archive) stored(ctx context.Context, img *results.StoredImage) (io.ReadCloser, error) {
	if img.StoredIn != results.InDatabase {
		return a.Store.Get(ctx, img.ObjectKey)
	}
	data, err := a.Results.ImageData(ctx, img.ID)
	return io.NopCloser(bytes.NewReader(data)), err
}

func (a *Archive) plain(img *results.StoredImage, stored io.Reader) (io.Reader, error) {
	if !img.Encrypted {
		return stored, nil
	}
	plain, err := imagestore.Unseal(stored, a.Identities)
	if _, wrong := errors.AsType[*age.NoIdentityMatchError](err); wrong {
		return nil, ErrWrongIdentity
	}
	return plain, err
}

// verified reads an image and compares its hash at the end.
type verified struct {
	io.Closer
	plain io.Reader
	hash  hash.Hash
	want  []byte
}

func (v *verified) Read(p []byte) (int, error) {
	n, err := v.plain.Read(p)
	v.hash.Write(p[:n])
	if errors.Is(err, io.EOF) && !bytes.Equal(v.hash.Sum(nil), v.want) {
		err = ErrDamaged
	}
	return n, err
}

// ofOneImage reports whether an error is about one image alone, so that others may be
// moved.
func ofOneImage(err error) bool {
	for _, one := range []error{imagestore.ErrNotFound, ErrWrongIdentity, ErrDamaged} {
		if errors.Is(err, one) {
			return true
		}
	}
	return false
}

// changed reports whether an image has been replaced or deleted meanwhile.
func changed(err error) bool { return errors.Is(err, store.ErrNotFound) }
