package jumio

import (
	"context"
	"errors"
	"sync"

	"golang.org/x/time/rate"
)

// Class is what a request counts as in a Budget. The requests for tokens, uploads,
// finalizations and health count as nothing.
type Class int

const (
	// ClassRetrieval is a request to the retrieval host: status, details, an image, a
	// deletion. Jumio allows 15 a second.
	ClassRetrieval Class = iota
	// ClassReconciliation is a retrieval request that no callback has led to.
	ClassReconciliation
	// ClassAccount is the creation or update of an account. Jumio allows one a second.
	ClassAccount
)

// Budget spreads requests over all instances that share a database.
type Budget interface {
	// Wait returns nil when one request of a class may be sent to a data center, ""
	// being a configured endpoint whose data center is unknown. It returns
	// context.Canceled or context.DeadlineExceeded if ctx ends, or will end, before
	// that, and another error if nobody can tell whether the request may be sent.
	Wait(ctx context.Context, dataCenter string, class Class) error
}

// classKey is the context key of the class of retrieval requests.
type classKey struct{}

// WithClass returns a context whose status, details and image requests are of a class.
// Without it, they are of ClassRetrieval.
func WithClass(ctx context.Context, class Class) context.Context {
	return context.WithValue(ctx, classKey{}, class)
}

func classOf(ctx context.Context) Class {
	class, _ := ctx.Value(classKey{}).(Class)
	return class
}

// AccountRPS is Jumio's limit on creations and updates of accounts a second.
const AccountRPS = 1

// LocalBudget is the Budget of one process that shares it with no other. It knows no
// priority between retrieval and reconciliation.
type LocalBudget struct {
	rps rate.Limit

	mu       sync.Mutex
	limiters map[limiterKey]*rate.Limiter
}

type limiterKey struct {
	dataCenter string
	account    bool
}

// NewLocalBudget makes a Budget of rps retrieval requests a second, which must be above
// 0, and one account request a second for each data center.
func NewLocalBudget(rps float64) *LocalBudget {
	return &LocalBudget{rps: rate.Limit(rps), limiters: make(map[limiterKey]*rate.Limiter)}
}

// Wait implements Budget.
func (b *LocalBudget) Wait(ctx context.Context, dataCenter string, class Class) error {
	err := b.limiter(limiterKey{dataCenter, class == ClassAccount}).Wait(ctx)
	if errors.Is(err, context.Canceled) {
		return context.Canceled
	}
	if err != nil { // ctx has a deadline that is over, or too near
		return context.DeadlineExceeded
	}
	return nil
}

func (b *LocalBudget) limiter(key limiterKey) *rate.Limiter {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.limiters[key]
	if l == nil {
		limit := b.rps
		if key.account {
			limit = AccountRPS
		}
		l = rate.NewLimiter(limit, 1)
		b.limiters[key] = l
	}
	return l
}
