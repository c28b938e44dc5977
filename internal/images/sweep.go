package images

import (
	"context"
	"errors"
	"time"

	"callbackd/internal/disposer"
	"callbackd/internal/imagestore"
	"callbackd/internal/store/results"
)

// youngest is the age below which Sweep ignores objects: theirs may be an upload whose row
// is about to come.
const youngest = time.Hour

// listBatch objects of the listing are stored together.
const listBatch = 5000

// Swept is what Sweep found.
type Swept struct {
	// Objects counts those listed, young ones included.
	Objects int64
	Orphans []results.OrphanObject
	Missing []results.MissingObject
	// Elsewhere counts the images in other stores, which were not looked for.
	Elsewhere int64
	// Deleted counts objects that are gone now.
	Deleted int
}

// Sweep compares the images with a listing of the image store. With fix, it deletes the
// orphans, and has the next retrieval of an image that misses its object store it anew.
func (a *Archive) Sweep(ctx context.Context, fix bool) (*Swept, error) {
	if a.Store == nil {
		return nil, errors.New("there is nothing to compare with: CALLBACKD_IMAGE_STORE is empty")
	}
	var swept Swept
	err := a.Results.Compare(ctx, a.Store.Kind(), func(c *results.Comparison) (err error) {
		if swept.Objects, err = a.list(ctx, c); err != nil {
			return err
		}
		if swept.Orphans, err = c.Orphans(ctx, youngest); err != nil {
			return err
		}
		if swept.Missing, err = c.Missing(ctx); err != nil {
			return err
		}
		if swept.Elsewhere, err = c.CountElsewhere(ctx); err != nil || !fix {
			return err
		}
		return c.Fix(ctx, swept.Orphans, swept.Missing)
	})
	if err != nil || !fix {
		return &swept, err
	}
	swept.Deleted, err = disposer.DeleteDue(ctx, a.Results, a.Store)
	return &swept, err
}

// list adds the listing of the store to the comparison, and counts it.
func (a *Archive) list(ctx context.Context, c *results.Comparison) (n int64, err error) {
	batch := make([]results.ListedObject, 0, listBatch)
	flush := func() error {
		n += int64(len(batch))
		err := c.Add(ctx, batch)
		batch = batch[:0]
		return err
	}
	err = a.Store.List(ctx, func(o imagestore.Object) error {
		batch = append(batch, results.ListedObject{Key: o.Key, SizeBytes: o.Size, ModifiedAt: o.ModifiedAt})
		if len(batch) < listBatch {
			return nil
		}
		return flush()
	})
	if err == nil {
		err = flush()
	}
	return n, err
}
