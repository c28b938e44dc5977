package sandbox

import (
	"math"
	"net/http"
	"strconv"
	"time"

	"callbackd/internal/sandbox/journey"
)

const htmlPage = "<!DOCTYPE html>\n<html><head><title>Please wait</title></head><body><h1>We'll be right back.</h1></body></html>\n"

// spoil applies the fault to a right answer, and reports whether the client still
// gets all of it.
func (s *Sandbox) spoil(r *http.Request, f Fault, answer response) (spoilt response, complete bool) {
	if status, err := strconv.Atoi(string(f.Kind)); err == nil {
		answer = s.errorAnswer(status, f)
		answer.rejection = ""
		return answer, false
	}
	contentType := answer.header.Get("Content-Type")
	switch f.Kind {
	case FaultSlow:
		answer.delay = f.delay()
		return answer, true
	case FaultDrip:
		answer.dripOver = f.delay()
		return answer, true
	case FaultHang, FaultReset, FaultTruncated:
		answer.breaks = f.Kind
	case FaultRevoked:
		s.tokens.revoke(bearer(r))
		answer = unauthorized("the access token is revoked")
		answer.rejection = ""
	case FaultRedirect:
		answer = newResponse(http.StatusFound, "text/html; charset=utf-8", nil)
		answer.header.Set("Location", "http://"+r.Host+trapPath)
	case FaultHTML:
		answer = newResponse(http.StatusOK, "text/html; charset=utf-8", []byte(htmlPage))
	case FaultEmpty:
		answer.body = nil
	case FaultBrokenJSON:
		answer.body = answer.body[:len(answer.body)/2]
	case FaultWrongType:
		contradiction := journey.PNG
		if contentType == journey.PNG {
			contradiction = journey.JPEG
		}
		answer = newResponse(http.StatusOK, contradiction, answer.body)
	}
	return answer, false
}

func (s *Sandbox) errorAnswer(status int, f Fault) response {
	if status == http.StatusUnauthorized {
		return unauthorized("the access token is not accepted")
	}
	detail := "a fault of the sandbox"
	if status == http.StatusTooManyRequests {
		detail = "Request limit exceeded"
	}
	answer := problem(status, detail)
	if f.RetryAfter > 0 {
		value := strconv.Itoa(int(math.Ceil(f.RetryAfter.Seconds())))
		if f.RetryAfterDate {
			// Rounded up: an HTTP date has no fractions.
			value = s.cfg.Now().Add(f.RetryAfter + time.Second).UTC().Format(http.TimeFormat)
		}
		answer.header.Set("Retry-After", value)
	}
	return answer
}
