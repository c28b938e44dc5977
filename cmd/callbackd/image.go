package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"callbackd/internal/app"
	"callbackd/internal/config"
	"callbackd/internal/images"
	"callbackd/internal/imagestore"
	"callbackd/internal/store"
	"callbackd/internal/store/results"
)

func newImageCommand(p *process) *cobra.Command {
	image := &cobra.Command{
		Use:   "image",
		Short: "Reads a stored image, moves images to the image store, compares both",
		Long: `Images are in the database, or with CALLBACKD_IMAGE_STORE in an S3 bucket or a
directory; docs/image-store.md says how to set that up, and how to encrypt them.`,
	}
	image.AddCommand(newImageGetCommand(p), newImageMoveCommand(p), newImageSweepCommand(p))
	return image
}

func newImageGetCommand(p *process) *cobra.Command {
	var reason, output string
	get := &cobra.Command{
		Use:   "get IMAGE_ID",
		Short: "Writes an image, and records who reads it and why",
		Long: `Writes the image that was retrieved, decrypted, to stdout or to a file with mode 0600.
Before its first byte, a row in jumio.image_reads says who reads it, when and why.

Needs DATABASE_URL, CALLBACKD_IMAGE_STORE if the image is there, and
CALLBACKD_IMAGE_IDENTITY if it is encrypted.`,
		Args: validImageID,
		RunE: func(c *cobra.Command, args []string) error {
			reason = strings.TrimSpace(reason)
			if err := checkReason(reason); err != nil {
				return wrongUsage(c, err)
			}
			return withArchive(c, p, func(a *images.Archive) error {
				img, err := a.Open(c.Context(), uuid.MustParse(args[0]), results.ImageRead{Reason: reason, Way: results.ReadByCommand})
				if err != nil {
					return fmt.Errorf("image %s: %w", args[0], err)
				}
				defer img.Close() // read only
				if output == "" {
					_, err = io.Copy(p.stdout, img)
				} else {
					err = writePrivate(output, img)
				}
				if err != nil {
					return fmt.Errorf("image %s: %w", args[0], err)
				}
				return nil
			})
		},
	}
	get.Flags().StringVar(&reason, "reason", "", "why the image is read; must not name the person")
	get.Flags().StringVar(&output, "output", "", "`file` to write instead of stdout, with mode 0600")
	return get
}

func validImageID(_ *cobra.Command, args []string) error {
	if uuid.Validate(args[0]) != nil {
		return fmt.Errorf("%q is not the id of an image", args[0])
	}
	return nil
}

// writePrivate writes a file that only its owner may read, whole or not at all.
func writePrivate(name string, content io.Reader) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".callbackd-image-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

// withArchive opens the database, with a current schema, and what images need besides.
func withArchive(c *cobra.Command, p *process, do func(*images.Archive) error) error {
	cfg, err := config.Images(p.environ)
	if err != nil {
		return err
	}
	return withSchema(c, p, func(db *store.DB) error {
		s, err := app.OpenImageStore(cfg, prometheus.NewRegistry())
		if err != nil {
			return err
		}
		sealer, err := imagestore.NewSealer(cfg.Recipients())
		if err != nil {
			return err
		}
		return do(&images.Archive{Results: results.New(db), Store: s, Identities: cfg.Identities(), Sealer: sealer})
	})
}

func newImageMoveCommand(p *process) *cobra.Command {
	var anew, vacuum bool
	move := &cobra.Command{
		Use:   "move",
		Short: "Moves images from the database to the image store, or encrypts them anew",
		Long: `Moves all images that are in the database to CALLBACKD_IMAGE_STORE, encrypted if there
are CALLBACKD_IMAGE_RECIPIENTS. An image stays where it was until its object is
durable. It works while instances run, can be interrupted, and continues where it was.

With --reencrypt, it encrypts all images that others than the present recipients can
read anew, those in the clear included; needs CALLBACKD_IMAGE_IDENTITY, whose keys read
what is encrypted. Without an image store, images in the database stay there.

The room in the database can be used again at once, but only for rows of the same
month. --vacuum gives it back to the file system, month by month: it locks the images
of a month that has none of its bytes left for the moment that it takes to copy their rows.`,
		RunE: func(c *cobra.Command, _ []string) error {
			return withArchive(c, p, func(a *images.Archive) error {
				doing := "moving images"
				if anew {
					doing = "encrypting images"
				}
				bar := newProgress(p, doing)
				m, err := a.Move(c.Context(), anew, func(m images.Moved) { bar.show(results.Progress{Done: m.Done, Total: m.Total}) })
				if err != nil {
					return fmt.Errorf("%d of %d images are done; run it again to continue: %w", m.Done, m.Total, err)
				}
				if _, err := fmt.Fprintf(p.stdout, "moved %d images, %d bytes\n", m.Done-int64(len(m.Failed)), m.Bytes); err != nil {
					return err
				}
				return errors.Join(printFailed(m.Failed), giveBack(c.Context(), p, a, vacuum))
			})
		},
	}
	move.Flags().BoolVar(&anew, "reencrypt", false, "encrypt anew what others than the present recipients can read")
	move.Flags().BoolVar(&vacuum, "vacuum", false, "give the room in the database back to the file system")
	return move
}

// mostNamed is how many images an error names.
const mostNamed = 20

// printFailed returns a line for each image that could not be moved.
func printFailed(failed []images.FailedImage) error {
	var errs []error
	for i, f := range failed {
		if i == mostNamed {
			errs = append(errs, fmt.Errorf("and %d other images", len(failed)-mostNamed))
			break
		}
		errs = append(errs, fmt.Errorf("image %s stays where it is: %w", f.ID, f.Err))
	}
	if len(errs) == 0 {
		return nil
	}
	return &linesError{errs}
}

// giveBack vacuums the months whose images are elsewhere, or says how.
func giveBack(ctx context.Context, p *process, a *images.Archive, vacuum bool) error {
	list, err := a.Results.ImagePartitions(ctx)
	if err != nil {
		return err
	}
	for _, m := range list {
		var err error
		switch {
		case m.InDatabase > 0:
			_, err = fmt.Fprintf(p.stdout, "callbackd.%s: %d bytes, %d images in it\n", m.Name, m.Bytes, m.InDatabase)
		case !vacuum:
			_, err = fmt.Fprintf(p.stdout, "callbackd.%s: %d bytes, no image in it; to give the room back: callbackd image move --vacuum, or VACUUM (FULL) callbackd.%s\n",
				m.Name, m.Bytes, m.Name)
		default:
			if err = a.Results.VacuumImages(ctx, m.Name); err == nil {
				_, err = fmt.Fprintf(p.stdout, "callbackd.%s: gave back about %d bytes\n", m.Name, m.DataBytes)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func newImageSweepCommand(p *process) *cobra.Command {
	var fix bool
	sweep := &cobra.Command{
		Use:   "sweep",
		Short: "Compares images with the image store: objects without image, images without object",
		Long: `Lists all objects of CALLBACKD_IMAGE_STORE and compares them with the images. Prints a
line for each orphan, an object that no image, upload or deletion names, and for each
image whose object is missing, then the sums. Objects younger than an hour are ignored.

With --fix it deletes the orphans, and marks the images whose object is missing, so that
callbackd refetch stores them anew. The directory, or what is under the prefix, must be
this database's alone. Do not use it with a database that was restored from a backup:
images retrieved since then would be orphans.

Exits 1 while an object is missing.`,
		RunE: func(c *cobra.Command, _ []string) error {
			return withArchive(c, p, func(a *images.Archive) error {
				swept, err := a.Sweep(c.Context(), fix)
				if err != nil {
					return err
				}
				return printSwept(p, swept, fix)
			})
		},
	}
	sweep.Flags().BoolVar(&fix, "fix", false, "delete the orphans, and have missing ones retrieved anew by refetch")
	return sweep
}

func printSwept(p *process, s *images.Swept, fix bool) error {
	var orphaned int64
	for _, o := range s.Orphans {
		orphaned += o.SizeBytes
		if _, err := fmt.Fprintf(p.stdout, "orphan %q %d bytes\n", o.Key, o.SizeBytes); err != nil {
			return err
		}
	}
	for _, m := range s.Missing {
		if _, err := fmt.Fprintf(p.stdout, "missing %q image %s workflow execution %s\n", m.Key, m.ImageID, m.WorkflowExecutionID); err != nil {
			return err
		}
	}
	if s.Elsewhere > 0 {
		if _, err := fmt.Fprintf(p.stdout, "%d images are in another kind of store and were not looked for\n", s.Elsewhere); err != nil {
			return err
		}
	}
	summary := fmt.Sprintf("%d objects, %d orphans (%d bytes), %d missing", s.Objects, len(s.Orphans), orphaned, len(s.Missing))
	if fix {
		summary += fmt.Sprintf("; deleted %d objects", s.Deleted)
	}
	if _, err := fmt.Fprintln(p.stdout, summary); err != nil {
		return err
	}
	if len(s.Missing) > 0 {
		return fmt.Errorf("the objects of %d images are missing", len(s.Missing))
	}
	return nil
}
