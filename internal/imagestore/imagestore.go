// Package imagestore keeps images outside the database: in an S3 bucket or a directory. It
// also encrypts what is stored (seal.go), there or in the database.
//
// It knows nothing of rows: internal/store/results decides which objects are visible and
// which are to be deleted. It never repeats an object's content in an error.
package imagestore

import (
	"context"
	"errors"
	"io"
	"net/url"
	"time"

	"github.com/google/uuid"
)

// The kinds of stores, as in the column stored_in.
const (
	KindS3   = "s3"
	KindFile = "file"
)

var (
	// ErrNotFound means that the store has no such object.
	ErrNotFound = errors.New("the object is missing")
	// ErrRefused means that the store cannot be used as it is set up: no such bucket or
	// directory, wrong keys, no right.
	ErrRefused = errors.New("the image store cannot be used")
)

// operationTimeout bounds one operation, but List.
const operationTimeout = time.Minute

// Store keeps objects, all that is in its directory or under its prefix. It is safe for concurrent use.
type Store interface {
	// Kind is KindS3 or KindFile.
	Kind() string
	// Put stores size bytes, durably once it returns nil. After an error the object may be
	// there, or appear within a few minutes.
	Put(ctx context.Context, key string, content io.Reader, size int64) error
	// Get opens an object, which may break off while it is read. Its error is ErrNotFound
	// if there is none.
	Get(ctx context.Context, key string) (io.ReadCloser, error)
	// Delete deletes an object, durably. It is no error if there is none.
	Delete(ctx context.Context, key string) error
	// List calls each for every object in the order of the keys, until that fails.
	List(ctx context.Context, each func(Object) error) error
	// Check asks whether the store can be used; ErrRefused says that waiting does not help.
	// What an operator should know is in warning.
	Check(ctx context.Context) (warning string, err error)
}

// Object is what List tells of an object.
type Object struct {
	Key string
	// Size is in bytes.
	Size       int64
	ModifiedAt time.Time
}

// Location is where a store is. Its fields are those of config.ImageStore.
type Location struct {
	Directory string
	Bucket    string
	Prefix    string
	Endpoint  *url.URL
	Region    string
	PathStyle string
}

// Options are a store's settings.
type Options struct {
	Location Location
	// AccessKey and SecretKey are for S3; empty for AWS' usual chain.
	AccessKey, SecretKey string
	Metrics              *Metrics
}

// Open returns the store; it asks it nothing.
func Open(o Options) (Store, error) {
	var s Store
	var err error
	if o.Location.Directory != "" {
		s = &directory{path: o.Location.Directory}
	} else {
		s, err = newBucket(o)
	}
	if err != nil {
		return nil, err
	}
	return &measured{s, o.Metrics}, nil
}

// NewKey returns the key of a new object: two random digits, which spread the objects,
// then an id that is used once, and an extension.
func NewKey(id uuid.UUID, contentType string, encrypted bool) string {
	name := id.String()
	key := name[len(name)-2:] + "/" + name
	switch contentType {
	case "image/jpeg":
		key += ".jpg"
	case "image/png":
		key += ".png"
	default:
		key += ".bin"
	}
	if encrypted {
		key += ".age"
	}
	return key
}
