package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"filippo.io/age"
	"github.com/jackc/pgx/v5"
)

// The keys of versitygw's only user, and its bucket.
const (
	s3AccessKey = "callbackd-bench"
	s3SecretKey = "callbackd-bench-secret"
	s3Bucket    = "images"
)

// stores compares retrieval into the database with retrieval into a directory and an S3
// server, in the clear and encrypted, interleaved.
func (b *bench) stores(ctx context.Context) (err error) {
	sandbox, err := b.startSandbox(ctx, imageBytes)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sandbox.stop()) }()
	dir, err := os.MkdirTemp("", "callbackd-bench-images-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	s3, settings, err := b.startS3(ctx, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s3.stop()) }()
	key, err := age.GenerateX25519Identity()
	if err != nil {
		return err
	}
	encrypted := "CALLBACKD_IMAGE_RECIPIENTS=" + key.Recipient().String()
	files := filepath.Join(dir, "files")
	if err := os.Mkdir(files, 0o700); err != nil {
		return err
	}
	directory := []string{"CALLBACKD_IMAGE_STORE=file://" + files}
	variants := []struct {
		name string
		env  []string
		runs []retrieved
	}{
		{"in the database", nil, nil},
		{"in the database, encrypted", []string{encrypted}, nil},
		{"in a directory", directory, nil},
		{"in a directory, encrypted", append([]string{encrypted}, directory...), nil},
		{"in S3 (versitygw)", settings, nil},
		{"in S3 (versitygw), encrypted", append([]string{encrypted}, settings...), nil},
	}
	for round := range b.rounds {
		for i := range variants {
			v := &variants[i]
			r, err := b.retrieveInto(ctx, sandbox, dir, v.env)
			if err != nil {
				return fmt.Errorf("images %s: %w", v.name, err)
			}
			v.runs = append(v.runs, r)
			b.progress("stores %d/%d  %-29s %.0f workflows/s, %.0f kB of WAL and %.0f kB of database each, %.0f MiB", round+1, b.rounds, v.name,
				r.rate, r.wal/1e3, r.size/1e3, r.memory)
		}
	}
	pick := func(runs []retrieved, of func(retrieved) float64) float64 {
		var values []float64
		for _, r := range runs {
			values = append(values, of(r))
		}
		return median(values)
	}
	rate := func(r retrieved) float64 { return r.rate }
	for i, v := range variants {
		wal, size := pick(v.runs, func(r retrieved) float64 { return r.wal }), pick(v.runs, func(r retrieved) float64 { return r.size })
		memory := pick(v.runs, func(r retrieved) float64 { return r.memory })
		f := figure{
			What: "retrieved workflows/s, images " + v.name, Value: pick(v.runs, rate), Unit: "/s",
			Detail: fmt.Sprintf("%.1f kB of WAL a verification, %.1f GB of database a million, %.0f MiB of memory", wal/1e3, size*1e6/1e9, memory),
		}
		if i > 0 {
			f.OverWhat, f.Over = "images in the database", pick(variants[0].runs, rate)
		}
		b.results.compare(f)
	}
	return nil
}

// retrieveInto retrieves into a fresh database, and counts what is in the stores, which it
// empties afterwards.
func (b *bench) retrieveInto(ctx context.Context, sandbox *server, dir string, env []string) (r retrieved, err error) {
	err = b.withDatabase(ctx, func(dsn string) error {
		if r, err = b.retrieveWith(ctx, sandbox, dsn, b.workflows, env...); err != nil {
			return err
		}
		if len(env) == 0 {
			return checkImages(ctx, dsn, r.table, b.workflows, imageBytes)
		}
		return checkOutside(ctx, dsn, dir, b.workflows*imagesEach)
	})
	return r, errors.Join(err, emptyDirectory(filepath.Join(dir, "files")), emptyDirectory(filepath.Join(dir, "objects", s3Bucket)))
}

// checkOutside wants as many images as were retrieved, each with its data or its file.
func checkOutside(ctx context.Context, dsn, dir string, want int) error {
	var outside, inside int
	err := scan(ctx, dsn, "SELECT count(*) FILTER (WHERE object_key IS NOT NULL), count(data) FROM jumio.images", nil, &outside, &inside)
	if err != nil {
		return fmt.Errorf("count the images: %w", err)
	}
	files := 0
	for _, stored := range []string{"files", filepath.Join("objects", s3Bucket)} { // beside the bucket are versitygw's locks
		err = errors.Join(err, filepath.WalkDir(filepath.Join(dir, stored), func(_ string, e fs.DirEntry, err error) error {
			if err == nil && e.Type().IsRegular() {
				files++
			}
			return err
		}))
	}
	if outside+inside != want || files != outside {
		err = errors.Join(err, fmt.Errorf("%d images in the database, %d elsewhere in %d files; want %d", inside, outside, files, want))
	}
	return err
}

func emptyDirectory(dir string) error {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
	}
	return err
}

// startS3 builds and starts versitygw with an empty bucket under dir, and returns the
// settings that let callbackd use it.
func (b *bench) startS3(ctx context.Context, dir string) (*server, []string, error) {
	var stderr bytes.Buffer
	build := exec.CommandContext(ctx, "go", "tool", "-n", "versitygw")
	build.Dir, build.Stderr = filepath.Join("internal", "imagestore", "versitygw"), &stderr
	path, err := build.Output()
	if err != nil {
		return nil, nil, fmt.Errorf("build versitygw: %w: %s", err, bytes.TrimSpace(stderr.Bytes()))
	}
	sidecar := filepath.Join(dir, "sidecar")
	for _, d := range []string{filepath.Join(dir, "objects", s3Bucket), sidecar} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, nil, err
		}
	}
	s, err := b.startServer(ctx, "versitygw", "/healthz", func(address string) *exec.Cmd {
		return exec.CommandContext(ctx, strings.TrimSpace(string(path)), "--access", s3AccessKey, "--secret", s3SecretKey, //nolint:gosec // built before
			"--port", address, "--health", "/healthz", "--quiet", "posix", "--sidecar", sidecar, filepath.Join(dir, "objects"))
	})
	if err != nil {
		return nil, nil, err
	}
	return s, []string{
		"CALLBACKD_IMAGE_STORE=s3://" + s3Bucket + "?path-style=true&endpoint=" + url.QueryEscape("http://"+s.address),
		"CALLBACKD_IMAGE_STORE_ACCESS_KEY=" + s3AccessKey, "CALLBACKD_IMAGE_STORE_SECRET_KEY=" + s3SecretKey,
	}, nil
}

// written returns how much WAL the server has written, and how large the database is, in
// bytes.
func written(ctx context.Context, dsn string) (wal, size float64, err error) {
	err = query(ctx, dsn, func(conn *pgx.Conn) error {
		return conn.QueryRow(ctx, `SELECT (pg_current_wal_lsn() - '0/0')::float8, pg_database_size(current_database())::float8`).Scan(&wal, &size)
	})
	return wal, size, err
}
