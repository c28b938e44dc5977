package intake

import (
	"context"
	"os"
	"time"

	"github.com/google/uuid"

	"callbackd/internal/spool"
)

// report is what the database has last been told of the spool.
type report struct {
	id    uuid.UUID
	at    time.Time // zero: nothing yet
	empty bool
}

// reportSpool tells the database whether the spool is empty, if that has changed or,
// while it is not, ten seconds later: an erasure waits for the spools that hold
// callbacks. Whatever keeps a callback on disk counts: dead letters and damaged files,
// too.
func (i *Intake) reportSpool(ctx context.Context) error {
	empty := i.files() == 0
	if last := i.report; !last.at.IsZero() && last.empty == empty && (empty || time.Since(last.at) < lookInterval) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, drainTimeout)
	defer cancel()
	if i.report.id == uuid.Nil {
		id, err := i.spool.ID(ctx)
		if err != nil {
			return err
		}
		i.report.id = id
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	if err := i.o.Store.ReportSpool(ctx, i.report.id, host, empty); err != nil {
		return err
	}
	i.report.at, i.report.empty = time.Now(), empty
	return nil
}

// files returns how many files hold callbacks.
func (i *Intake) files() int {
	n := 0
	for _, s := range []*spool.Spool{i.spool, i.deadLetters} {
		if s != nil {
			n += s.Stats().Files
		}
	}
	return n
}
