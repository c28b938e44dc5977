package eraser

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"time"

	"callbackd/internal/jumio"
	"callbackd/internal/store/results"
	"callbackd/internal/tombstone"
)

// renewInterval is how often the lease is renewed during a request to Jumio.
const renewInterval = 5 * time.Second

// atJumio makes an attempt to delete at Jumio what is not deleted there yet.
func (e *Eraser) atJumio(ctx context.Context, o *results.Order) error {
	list, err := e.results.ToDelete(ctx, o)
	if err != nil || o.Waits() || len(list) == 0 {
		return err
	}
	ctx, stop := e.keepLease(ctx, o)
	defer stop()
	var failure *jumio.Error
	for _, subject := range list {
		answers, err := e.deleteAtJumio(jumio.WithAttempt(ctx), subject)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := e.results.AddAnswers(ctx, o, subject.Subject, err == nil, answers); err != nil {
			return err
		}
		if failed, ok := errors.AsType[*jumio.Error](err); ok && failure == nil {
			failure = failed
		}
	}
	if failure == nil {
		return nil // ToDelete finds nothing, and the next step follows
	}
	if failure.Code == jumio.CodeNoBudget { // the database's fault
		return failure
	}
	attempt, now := o.Attempts+1, time.Now()
	next := time.Time{}
	if attempt < e.Schedule.Attempts() {
		next = e.Schedule.Next(attempt, now, now.Add(failure.RetryAfter))
	}
	return e.results.PutOff(ctx, o, next, failure.Error())
}

// keepLease renews the order's lease until it is stopped. If another worker has taken the
// order over, ctx ends.
func (e *Eraser) keepLease(ctx context.Context, o *results.Order) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	order := *o
	done := make(chan struct{})
	go func() {
		defer close(done)
		ticker := time.NewTicker(renewInterval)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			if err := e.results.RenewOrder(ctx, &order); errors.Is(err, results.ErrOrderLost) {
				cancel(err)
			}
		}
	}()
	return ctx, func() {
		cancel(nil)
		<-done
	}
}

// deleteAtJumio deletes one account or workflow execution, in each data center where it may
// be, and returns Jumio's answers. 404 counts as deleted. Errors are of type *jumio.Error.
func (e *Eraser) deleteAtJumio(ctx context.Context, s results.AtJumio) (answers []results.Answer, err error) {
	places := []string{s.DataCenter}
	if s.DataCenter == "" {
		places = e.Jumio.KnownDataCenters()
	}
	var first error
	for _, place := range places {
		err := e.deleteIn(ctx, place, s)
		failed, ofJumio := errors.AsType[*jumio.Error](err)
		switch {
		case err == nil:
			answers = append(answers, results.Answer{Status: http.StatusOK, At: time.Now().UTC()})
		case ofJumio && failed.HTTPStatus != 0 && failed.Endpoint != jumio.EndpointToken:
			answers = append(answers, results.Answer{Status: failed.HTTPStatus, At: time.Now().UTC()})
		}
		if err == nil {
			return answers, nil
		}
		if first == nil && (!ofJumio || failed.Code != jumio.CodeNotFound) {
			first = err
		}
	}
	return answers, first
}

func (e *Eraser) deleteIn(ctx context.Context, dataCenter string, s results.AtJumio) error {
	if s.Kind == tombstone.Account {
		return e.Jumio.DeleteAccount(ctx, dataCenter, s.ID)
	}
	w := jumio.Workflow{DataCenter: dataCenter, AccountID: s.AccountID, ID: s.ID}
	if !s.Confirmed {
		// Anybody can name an account in a callback, and under another one Jumio would
		// say that there is no such workflow execution.
		status, err := e.Jumio.Status(ctx, jumio.Workflow{DataCenter: dataCenter, ID: s.ID})
		if err != nil {
			return err
		}
		w.AccountID = cmp.Or(status.AccountID, s.AccountID)
	}
	return e.Jumio.DeleteWorkflow(ctx, w)
}
