package sandbox

import (
	"errors"
	"slices"
	"time"

	"go.uber.org/zap"

	"callbackd/internal/sandbox/journey"
	"callbackd/internal/workflow"
)

// sessionTimeout is how long the user may do nothing after the start (guide,
// "Workflow Transaction Token Timeout").
const sessionTimeout = 15 * time.Minute

// acquisition is how far the user of a created journey has come. The journey's
// mutex guards it, but for the request.
type acquisition struct {
	request initiation
	started time.Time            // zero before the first action
	chosen  journey.DocumentType // by the user; empty: none
	// webErrorCode is the guide's error code with which the web journey ended.
	webErrorCode int

	// timer counts the timers; only the newest one matters. stop stops it.
	timer int
	stop  func() bool
}

// Why nothing more can be given.
var (
	errTokenExpired   = errors.New("the token has expired")
	errSessionExpired = errors.New("the session has expired")
	errNotAvailable   = errors.New("the workflow execution is finalized or deleted")
)

// withRequest makes the journey wait for its user.
func withRequest(request initiation) Option {
	return func(j *Journey) {
		j.acquisition = &acquisition{request: request, stop: func() bool { return false }}
	}
}

// await lets a new journey's tokens expire.
func (s *Sandbox) await(j *Journey) {
	lifetime, _ := j.acquisition.request.lifetime() // checked before
	j.mu.Lock()
	defer j.mu.Unlock()
	s.after(j, lifetime, s.expire)
}

// after calls what comes next once d has passed on the sped up clock, unless
// something else happens before. The caller holds the journey's mutex.
func (s *Sandbox) after(j *Journey, d time.Duration, next func(*Journey)) {
	a := j.acquisition
	a.cancel()
	timer := a.timer
	a.stop = s.cfg.AfterFunc(time.Duration(float64(d)/s.cfg.Speed), func() {
		j.mu.Lock()
		due := a.timer == timer && !j.deleted
		if due {
			next(j)
		}
		j.mu.Unlock()
		if due {
			s.report(j)
		}
	})
}

// cancel stops the timer.
func (a *acquisition) cancel() {
	a.timer++
	a.stop()
}

// stopWaiting ends what the journey waits for and its tokens; the caller holds the
// sandbox's mutex.
func (s *Sandbox) stopWaiting(j *Journey) {
	for _, token := range j.tokens {
		delete(s.grants, token)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.acquisition != nil {
		j.acquisition.cancel()
	}
}

// expire ends a journey whose user did nothing for too long; the caller holds the
// journey's mutex, and reports it.
func (s *Sandbox) expire(j *Journey) {
	status := workflow.StatusSessionExpired
	if j.acquisition.started.IsZero() {
		status = workflow.StatusTokenExpired
	}
	j.current = j.At(status, j.acquisition.started, s.cfg.Now())
}

// open returns why the user can give nothing more, if so; the caller holds the
// journey's mutex.
func (j *Journey) open() error {
	switch {
	case j.deleted:
		return errNotAvailable
	case j.current.Status == workflow.StatusTokenExpired:
		return errTokenExpired
	case j.current.Status == workflow.StatusSessionExpired:
		return errSessionExpired
	case j.current.Status == workflow.StatusInitiated || j.current.Status == workflow.StatusAcquisitionStarted:
		return nil
	}
	return errNotAvailable
}

// act is an action of the user, after which the session's time-out starts anew.
// do runs with the journey's mutex; nil: nothing more happens.
func (s *Sandbox) act(j *Journey, do func(*acquisition)) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.open(); err != nil {
		return err
	}
	s.start(j)
	if do != nil {
		do(j.acquisition)
	}
	s.after(j, sessionTimeout, s.expire)
	return nil
}

// start begins the session at the first action; the caller holds the journey's mutex.
func (s *Sandbox) start(j *Journey) {
	if j.acquisition.started.IsZero() {
		j.acquisition.started = s.cfg.Now()
		j.current = j.At(workflow.StatusAcquisitionStarted, j.acquisition.started, time.Time{})
	}
}

// finalize ends the acquisition: after Config.Processing the journey is as its kind
// says, and its callbacks are sent. One of the kind that stays ACQUIRED does so.
func (s *Sandbox) finalize(j *Journey) error {
	err := s.acquired(j)
	if err == nil && s.cfg.Processing == 0 {
		s.report(j)
	}
	return err
}

func (s *Sandbox) acquired(j *Journey) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.open(); err != nil {
		return err
	}
	s.start(j)
	j.current = j.At(workflow.StatusAcquired, j.acquisition.started, time.Time{})
	if s.cfg.Processing > 0 {
		s.after(j, s.cfg.Processing, s.process)
		return nil
	}
	j.acquisition.cancel()
	s.process(j)
	return nil
}

// process gives the journey the result of its kind; the caller holds the journey's
// mutex, and reports it.
func (s *Sandbox) process(j *Journey) {
	if a := j.acquisition; j.Status == workflow.StatusProcessed {
		j.current = j.Processed(a.chosen, j.wasUploaded, a.started, s.cfg.Now())
	}
}

// wasUploaded reports whether the part came by the API or the web; the caller holds
// the mutex.
func (j *Journey) wasUploaded(wanted *journey.Part) bool {
	i := slices.IndexFunc(j.parts, func(p *part) bool { return p.Part == wanted })
	return i >= 0 && j.parts[i].uploaded != nil
}

// report sends the journey's callbacks in the background, if there is somewhere to
// send them.
func (s *Sandbox) report(j *Journey) {
	if j.callbackURL == "" {
		return
	}
	s.inBackground(func() {
		if err := s.Send(s.ctx, j); err != nil {
			s.log.Warn("sending callbacks", zap.Error(err))
		}
	})
}
