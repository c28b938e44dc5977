package store

import (
	"errors"
	"fmt"
)

// ReasonNotStorable begins the reason of a dead letter: a callback that was answered
// 200 but whose values keep it from being stored or promoted.
const ReasonNotStorable = "not_storable"

// DeadLetterReason returns the reason of a dead letter that Postgres rejected with
// cause.
func DeadLetterReason(cause error) string {
	if e, ok := errors.AsType[*SQLError](cause); ok {
		return fmt.Sprintf("%s: SQLSTATE %s", ReasonNotStorable, e.Code)
	}
	return ReasonNotStorable
}
