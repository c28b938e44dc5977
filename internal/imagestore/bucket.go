package imagestore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

const (
	// tries is how often minio-go asks before it gives up. The worker tries again later.
	tries = 3
	// answerTimeout is how long the server may take to answer a request that it has.
	answerTimeout = 30 * time.Second
	dialTimeout   = 10 * time.Second
)

// bucket keeps objects in an S3 bucket.
type bucket struct {
	client       *minio.Client
	name, prefix string
}

func newBucket(o Options) (*bucket, error) {
	transport, err := minio.DefaultTransport(true)
	if err != nil {
		return nil, fmt.Errorf("make a client for S3: %w", err)
	}
	transport.DialContext = (&net.Dialer{Timeout: dialTimeout}).DialContext
	transport.ResponseHeaderTimeout = answerTimeout
	options := &minio.Options{
		Secure: true, Region: o.Location.Region, Transport: transport, MaxRetries: tries,
		Creds: credentials.NewChainCredentials([]credentials.Provider{
			&credentials.EnvAWS{}, &credentials.FileAWSCredentials{}, &credentials.IAM{Client: &http.Client{Timeout: dialTimeout}},
		}),
	}
	endpoint := "s3.amazonaws.com"
	if at := o.Location.Endpoint; at != nil {
		endpoint, options.Secure = at.Host, at.Scheme == "https"
		options.Region = cmp.Or(options.Region, "us-east-1") // which most other servers take
	}
	if o.AccessKey != "" {
		options.Creds = credentials.NewStaticV4(o.AccessKey, o.SecretKey, "")
	}
	switch o.Location.PathStyle {
	case "true":
		options.BucketLookup = minio.BucketLookupPath
	case "false":
		options.BucketLookup = minio.BucketLookupDNS
	}
	client, err := minio.New(endpoint, options)
	if err != nil {
		return nil, fmt.Errorf("make a client for S3: %w", err)
	}
	return &bucket{client, o.Location.Bucket, o.Location.Prefix}, nil
}

func (b *bucket) Kind() string { return KindS3 }

// refusals are S3's codes for what waiting does not mend.
var refusals = []string{
	"NoSuchBucket", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "AuthorizationHeaderMalformed",
	"PermanentRedirect", "InvalidBucketName", "AccountProblem", "AllAccessDisabled", "InvalidToken", "ExpiredToken",
}

// explain says what went wrong by S3's code, without the answer's text and addresses.
func explain(doing string, err error) error {
	if err == nil {
		return nil
	}
	answer, ok := errors.AsType[minio.ErrorResponse](err)
	if ok && answer.Code != "" {
		if slices.Contains(refusals, answer.Code) {
			return fmt.Errorf("%s: %w: S3 answers %s", doing, ErrRefused, answer.Code)
		}
		return fmt.Errorf("%s: S3 answers %s (%d)", doing, answer.Code, answer.StatusCode)
	}
	if urlErr, ok := errors.AsType[*url.Error](err); ok {
		err = urlErr.Err
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// Put sends one request, whatever the size: parts would be buffered.
func (b *bucket) Put(ctx context.Context, key string, content io.Reader, size int64) error {
	_, err := b.client.PutObject(ctx, b.name, b.prefix+key, content, size, minio.PutObjectOptions{
		ContentType: "application/octet-stream", DisableMultipart: true,
	})
	return explain("put an object", err)
}

func (b *bucket) Get(ctx context.Context, key string) (io.ReadCloser, error) {
	const doing = "get an object"
	object, err := b.client.GetObject(ctx, b.name, b.prefix+key, minio.GetObjectOptions{})
	if err != nil {
		return nil, explain(doing, err)
	}
	if _, err = object.Stat(); err != nil { // the first request
		_ = object.Close()
		if minio.ToErrorResponse(err).Code == minio.NoSuchKey {
			return nil, ErrNotFound
		}
		return nil, explain(doing, err)
	}
	return &reading{object}, nil
}

// reading is an object that is read, with errors of ours.
type reading struct{ *minio.Object }

func (r *reading) Read(p []byte) (int, error) {
	n, err := r.Object.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = explain("read an object", err)
	}
	return n, err
}

func (b *bucket) Delete(ctx context.Context, key string) error {
	err := b.client.RemoveObject(ctx, b.name, b.prefix+key, minio.RemoveObjectOptions{})
	if minio.ToErrorResponse(err).Code == minio.NoSuchKey {
		return nil
	}
	return explain("delete an object", err)
}

func (b *bucket) List(ctx context.Context, each func(Object) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for object := range b.client.ListObjectsIter(ctx, b.name, minio.ListObjectsOptions{Prefix: b.prefix, Recursive: true}) {
		if object.Err != nil {
			return explain("list the bucket", object.Err)
		}
		err := each(Object{Key: strings.TrimPrefix(object.Key, b.prefix), Size: object.Size, ModifiedAt: object.LastModified})
		if err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (b *bucket) Check(ctx context.Context) (warning string, err error) {
	ctx, cancel := context.WithTimeout(ctx, operationTimeout)
	defer cancel()
	for object := range b.client.ListObjectsIter(ctx, b.name, minio.ListObjectsOptions{Prefix: b.prefix, MaxKeys: 1}) {
		if object.Err != nil {
			return "", explain("list the bucket", object.Err)
		}
		break
	}
	// Whoever may not ask this may still use the bucket.
	if v, err := b.client.GetBucketVersioning(ctx, b.name); err == nil && v.Enabled() {
		return "the bucket keeps versions: what is deleted stays until a lifecycle rule removes it", nil
	}
	return "", nil
}
