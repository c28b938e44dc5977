package workflow

import "time"

// Schedule holds the delay before each attempt of a retrieval, including the first
// (guide, "Retrieval", Best Practices).
type Schedule []time.Duration

// Attempts returns the number of attempts of a retrieval.
func (s Schedule) Attempts() int { return len(s) }

// Length returns the sum of the delays: how long a retrieval takes if Jumio answers at
// once but only the last attempt succeeds.
func (s Schedule) Length() time.Duration {
	var sum time.Duration
	for _, delay := range s {
		sum += delay
	}
	return sum
}

// Next returns when to make the attempt after the given one, which counts from 1 and
// failed now: after its delay, but not before notBefore (Jumio's Retry-After; zero for
// none). After the last attempt, the delay is 0.
func (s Schedule) Next(attempt int, now, notBefore time.Time) time.Time {
	next := now
	if attempt < len(s) {
		next = now.Add(s[attempt])
	}
	return latest(next, notBefore)
}
