package sandbox

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"callbackd/internal/workflow"
)

// maxSenders bounds the journeys that are being sent at one moment.
const maxSenders = 64

// planned is one callback to post.
type planned struct {
	status string
	sentAt time.Time
	// after passes before it is posted.
	after time.Duration
}

// plan lists the journey's callbacks in the order of their posting.
func (s *Sandbox) plan(j *Journey) []planned {
	now := j.now()
	final := now.CallbackStatus()
	reordered, equal := j.callbackFault(FaultReordered) != nil, j.callbackFault(FaultEqualTimes) != nil
	statuses := []string{final}
	switch {
	case now.Status == workflow.StatusAcquired:
		statuses = []string{workflow.StatusAcquisitionStarted, final}
	case now.Status == workflow.StatusProcessed && (j.Intermediate || reordered || equal):
		statuses = []string{workflow.StatusAcquisitionStarted, workflow.StatusAcquired, final}
	}
	all := make([]planned, len(statuses))
	stamp := j.stamp(s.cfg.Now())
	for i, status := range statuses {
		all[i] = planned{status: status, sentAt: stamp}
		if !equal {
			// The earlier ones were due earlier; the newest is due now.
			all[i].sentAt = stamp.Add(-time.Duration(len(statuses)-1-i) * time.Second)
		}
	}
	if late := j.callbackFault(FaultLate); late != nil {
		all[len(all)-1].after = late.delay()
	}
	if lost := j.callbackFault(FaultLost); lost != nil {
		all = all[:max(0, len(all)-cmp.Or(lost.Times, len(all)))]
	}
	if reordered || equal {
		slices.Reverse(all)
	}
	return all
}

// stamp is a callbackSentAt newer than all earlier ones of the journey, in
// whole milliseconds.
func (j *Journey) stamp(now time.Time) time.Time {
	j.mu.Lock()
	defer j.mu.Unlock()
	now = now.UTC().Truncate(time.Millisecond)
	if !now.After(j.lastSent) {
		now = j.lastSent.Add(time.Millisecond)
	}
	j.lastSent = now
	return now
}

// Send posts the journey's callbacks one by one. One that is not answered with
// 200 is repeated Config.Repeat times, then given up, which is an error; the next
// ones are posted all the same.
func (s *Sandbox) Send(ctx context.Context, j *Journey) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	var errs []error
	for _, p := range s.plan(j) {
		if err := sleep(ctx, p.after); err != nil {
			return err
		}
		errs = append(errs, s.post(ctx, j, p))
	}
	return errors.Join(errs...)
}

// SendStatus posts one more callback of the journey with the status and a
// newer callbackSentAt.
func (s *Sandbox) SendStatus(ctx context.Context, j *Journey, status string) error {
	return s.post(ctx, j, planned{status: status, sentAt: j.stamp(s.cfg.Now())})
}

// SendAll posts the callbacks of many journeys, perSecond of them a second (0: as
// fast as they are answered). Its error counts those that were given up and
// quotes one of them.
func (s *Sandbox) SendAll(ctx context.Context, journeys []*Journey, perSecond float64) error {
	return s.sendEach(ctx, slices.Values(journeys), perSecond)
}

// SendNew makes and sends n journeys of the kinds in turn, or of the mix without
// kinds. Unlike SendAll it holds only those in flight, so n may be large.
func (s *Sandbox) SendNew(ctx context.Context, n int, kinds []string, perSecond float64) error {
	if len(kinds) == 0 {
		kinds = []string{""}
	}
	var wrong error
	err := s.sendEach(ctx, func(yield func(*Journey) bool) {
		for i := range n {
			j, err := s.NewJourney(kinds[i%len(kinds)])
			if err != nil {
				wrong = err
				return
			}
			if !yield(j) {
				return
			}
		}
	}, perSecond)
	return errors.Join(wrong, err)
}

func (s *Sandbox) sendEach(ctx context.Context, journeys iter.Seq[*Journey], perSecond float64) error {
	limiter := rate.NewLimiter(cmp.Or(rate.Limit(perSecond), rate.Inf), 1)
	var group errgroup.Group
	group.SetLimit(maxSenders)
	var failed atomic.Int64
	var sample atomic.Pointer[error]
	sent := 0
	var stopped error
	for j := range journeys {
		if stopped = limiter.Wait(ctx); stopped != nil {
			break
		}
		sent++
		group.Go(func() error {
			if err := s.Send(ctx, j); err != nil {
				failed.Add(1)
				sample.CompareAndSwap(nil, &err)
			}
			return nil
		})
	}
	_ = group.Wait() // the senders return no errors
	if failed.Load() > 0 {
		return fmt.Errorf("sandbox: %d of %d journeys could not be delivered, one of them: %w", failed.Load(), sent, *sample.Load())
	}
	return stopped
}

// post delivers one callback, with its duplicates at the same time.
func (s *Sandbox) post(ctx context.Context, j *Journey, p planned) error {
	if j.callbackURL == "" {
		return errors.New("sandbox: there is no callback URL")
	}
	copies := 1
	if duplicate := j.callbackFault(FaultDuplicate); duplicate != nil {
		copies += max(1, duplicate.Times)
	}
	contentType, body := j.callback(p.status, p.sentAt).encode(s.cfg.CallbackForm)
	contentType = cmp.Or(s.cfg.CallbackContentType, contentType)
	var group errgroup.Group
	for range copies {
		group.Go(func() error { return s.postUntilAcknowledged(ctx, j, p, contentType, body) })
	}
	return group.Wait()
}

func (s *Sandbox) postUntilAcknowledged(ctx context.Context, j *Journey, p planned, contentType string, body []byte) error {
	for repeat := 0; ; repeat++ {
		code, err := s.postOnce(ctx, j, contentType, body)
		d := Delivery{Status: p.status, CallbackSentAt: p.sentAt, DeliveredAt: s.cfg.Now().UTC(), Code: code}
		if err != nil {
			d.Error = err.Error()
		}
		s.delivered(j, d)
		s.log.Debug("callback posted", zap.String("workflow_execution_id", j.WorkflowExecutionID), zap.String("status", p.status), zap.Int("code", code), zap.Error(err))
		if code == http.StatusOK {
			return nil
		}
		if repeat >= s.cfg.Repeat || sleep(ctx, s.cfg.RepeatPause) != nil {
			s.total(func(t *Totals) { t.CallbacksGivenUp++ })
			if err == nil {
				err = fmt.Errorf("answered with %d", code)
			}
			return fmt.Errorf("callback %s of workflow execution %s: %w", p.status, j.WorkflowExecutionID, err)
		}
	}
}

// postOnce returns the answer's status. Its error does not hold the callback
// URL, which may be a secret.
func (s *Sandbox) postOnce(ctx context.Context, j *Journey, contentType string, body []byte) (int, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, j.callbackURL, bytes.NewReader(body))
	if err != nil {
		return 0, withoutURL(err)
	}
	maps.Copy(request.Header, s.cfg.CallbackHeader)
	request.Header.Set("Content-Type", contentType)
	request.Header.Set("User-Agent", "Jumio sandbox/v1.0")
	answer, err := s.poster.Do(request)
	if err != nil {
		return 0, withoutURL(err)
	}
	defer answer.Body.Close()
	// Read to its end, so that the connection can be used again.
	_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, 64<<10))
	return answer.StatusCode, nil
}

func withoutURL(err error) error {
	if withURL, ok := errors.AsType[*url.Error](err); ok {
		return withURL.Err
	}
	return err
}

// sleep returns an error when ctx ends first.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	return ctx.Err()
}
