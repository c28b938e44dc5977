package images

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"callbackd/internal/imagestore"
	"callbackd/internal/store/results"
)

const (
	// moveBatch images are looked up together, and movedAtOnce in memory.
	moveBatch, movedAtOnce = 200, 4
	// abandonTimeout bounds the note that an object is to be deleted, also during a stop.
	abandonTimeout = 10 * time.Second
)

// Moved is how far a move is.
type Moved struct {
	Total, Done int64
	// Bytes are those of the plain images.
	Bytes int64
	// Failed are images that could not be moved, and stay where they are.
	Failed []FailedImage
}

// FailedImage is an image that could not be read.
type FailedImage struct {
	ID  uuid.UUID
	Err error
}

// Move moves all images in the database to the image store, or with anew encrypts all
// images anew that others than the Sealer's recipients can read, into the image store if
// there is one. An image is where it was until its new object is durable; then the old one
// is queued to be deleted. It can be stopped at any time and continues where it was.
func (a *Archive) Move(ctx context.Context, anew bool, show func(Moved)) (Moved, error) {
	var m Moved
	var unmoved results.Unmoved
	switch {
	case anew && a.Sealer == nil:
		return m, errors.New("there is nobody to encrypt to: CALLBACKD_IMAGE_RECIPIENTS is empty")
	case !anew && a.Store == nil:
		return m, errors.New("there is nowhere to move images to: CALLBACKD_IMAGE_STORE is empty")
	case anew:
		unmoved.Keys = a.Sealer.Keys()
	}
	var err error
	if m.Total, err = a.Results.CountUnmoved(ctx, unmoved); err != nil {
		return m, err
	}
	show(m)
	var after uuid.UUID
	var mu sync.Mutex
	for {
		list, err := a.Results.ListUnmoved(ctx, unmoved, after, moveBatch)
		if err != nil || len(list) == 0 {
			return m, err
		}
		after = list[len(list)-1].ID
		group, ctx := errgroup.WithContext(ctx)
		group.SetLimit(movedAtOnce)
		for i := range list {
			group.Go(func() error {
				img := &list[i]
				err := a.move(ctx, img, anew)
				if err != nil && !ofOneImage(err) && !changed(err) {
					return err
				}
				mu.Lock()
				defer mu.Unlock()
				m.Done++
				switch {
				case err == nil:
					m.Bytes += img.SizeBytes
				case !changed(err):
					m.Failed = append(m.Failed, FailedImage{img.ID, err})
				}
				show(m)
				return nil
			})
		}
		if err := group.Wait(); err != nil {
			return m, err
		}
	}
}

// move moves one image, whose plain bytes it compares with the hash of the row if it sees
// them: an original that is damaged must not be replaced.
func (a *Archive) move(ctx context.Context, img *results.StoredImage, anew bool) error {
	if anew {
		if err := a.readable(img); err != nil {
			return err
		}
	}
	asIs := img.Encrypted && !anew
	to := results.ImagePlace{StoredIn: results.InDatabase, Encrypted: img.Encrypted, EncryptedTo: img.EncryptedTo}
	data, err := a.read(ctx, img, asIs)
	if err != nil {
		return err
	}
	sealer := a.Sealer
	if asIs {
		sealer = nil
	} else {
		to.Encrypted, to.EncryptedTo = sealer != nil, sealer.Keys()
	}
	content, size, err := sealer.Seal(data)
	if err != nil {
		return err
	}
	if a.Store == nil {
		sealed, err := io.ReadAll(content)
		if err != nil {
			return fmt.Errorf("encrypt an image: %w", err)
		}
		return a.Results.RewriteImage(ctx, img, to, sealed)
	}
	id, err := results.NewImageID()
	if err != nil {
		return err
	}
	to.StoredIn, to.ObjectKey = a.Store.Kind(), imagestore.NewKey(id, img.ContentType, to.Encrypted)
	if err := a.Results.BeginMove(ctx, img, to); err != nil {
		return err
	}
	if err = a.Store.Put(ctx, to.ObjectKey, content, size); err == nil {
		err = a.Results.FinishMove(ctx, img, to)
	}
	if err != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abandonTimeout)
		defer cancel()
		return errors.Join(err, a.Results.AbandonUpload(ctx, to.ObjectKey))
	}
	return nil
}

// read returns the plain bytes of an image, or with asIs the stored ones.
func (a *Archive) read(ctx context.Context, img *results.StoredImage, asIs bool) ([]byte, error) {
	stored, err := a.stored(ctx, img)
	if err != nil {
		return nil, err
	}
	defer stored.Close() // read only
	if asIs {
		return io.ReadAll(stored)
	}
	plain, err := a.plain(img, stored)
	if err != nil {
		return nil, err
	}
	buf := bytes.NewBuffer(make([]byte, 0, img.SizeBytes+bytes.MinRead)) // so that it need not grow
	_, err = buf.ReadFrom(&verified{stored, plain, sha256.New(), img.SHA256})
	return buf.Bytes(), err
}
