package fetcher

import (
	"context"
	"errors"

	"go.uber.org/zap"

	"callbackd/internal/imagestore"
	"callbackd/internal/jumio"
	"callbackd/internal/store/results"
)

// keep stores an image, encrypted if there are recipients, in the database or the image
// store, as a row that no view shows yet.
//
// The image is in memory whole: its end decides whether it is an image at all, and what is
// none must not be stored. From there it is encrypted and sent without a second copy.
func (a *attempt) keep(ctx context.Context, part jumio.Part, img *jumio.Image) error {
	id, err := results.NewImageID()
	if err != nil {
		return err
	}
	row := &results.Image{
		PartKey: partKey(part), AccountID: part.AccountID, Category: part.Category, ContentType: img.ContentType,
		SizeBytes: int64(len(img.Data)), SHA256: img.SHA256, Width: int32(img.Width), Height: int32(img.Height), //nolint:gosec // pixels of an image header
		ImagePlace: results.ImagePlace{StoredIn: results.InDatabase, Encrypted: a.sealer != nil, EncryptedTo: a.sealer.Keys()},
	}
	content, size, err := a.sealer.Seal(img.Data)
	if err != nil {
		return err
	}
	if a.imageStore == nil {
		return a.results.StageImage(ctx, a.lease, id, row, content, size)
	}
	row.StoredIn, row.ObjectKey = a.imageStore.Kind(), imagestore.NewKey(id, img.ContentType, row.Encrypted)
	if err := a.results.BeginUpload(ctx, a.lease, row.ImagePlace); err != nil {
		return err
	}
	err = a.imageStore.Put(ctx, row.ObjectKey, content, size)
	if err == nil {
		err = a.results.StageObject(ctx, a.lease, id, row)
	}
	if err != nil {
		a.abandon(ctx, row.ObjectKey)
	}
	return err
}

// abandon has an object deleted that gets no row.
func (w *worker) abandon(ctx context.Context, key string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishTimeout)
	defer cancel()
	if err := w.results.AbandonUpload(ctx, key); err != nil {
		w.log.Warn("could not have the object of an image deleted that was not stored; it will be deleted in an hour", zap.Error(err))
	}
}

// lostLease reports whether another run has the lease, or none is needed any more.
func lostLease(err error) bool {
	return errors.Is(err, results.ErrBusy) || errors.Is(err, results.ErrSuperseded)
}
