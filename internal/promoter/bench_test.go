package promoter

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"callbackd/internal/callback"
	"callbackd/internal/store/results"
	"callbackd/internal/store/storetest"
)

// BenchmarkPromote is the cost of one callback in promotion, each of a workflow
// execution of its own, by the size of the batch.
func BenchmarkPromote(b *testing.B) {
	for _, batch := range []int{100, 500, 2000} {
		b.Run(fmt.Sprint(batch), func(b *testing.B) {
			s := storetest.New(b)
			insertMany(b, s, b.N)
			p := newPromoter(b, s)
			b.ResetTimer()
			for left := b.N; left > 0; {
				n, err := p.promote(b.Context(), results.Take{Limit: batch}, time.Minute)
				if err != nil {
					b.Fatal(err)
				}
				left -= n
			}
		})
	}
}

func insertMany(b *testing.B, s *storetest.Store, n int) {
	b.Helper()
	var inserting sync.WaitGroup
	work := make(chan int)
	for range 64 {
		inserting.Go(func() {
			for i := range work {
				err := s.InsertCallback(context.Background(), &callback.Callback{
					ID: uuid.Must(uuid.NewV7()), ReceivedAt: time.Now(), Body: make([]byte, 482),
					WorkflowExecutionID: uuid.NewString(), WorkflowStatus: "PROCESSED", AccountID: fmt.Sprint(i),
					CallbackSentAt: time.Now(),
				})
				if err != nil {
					b.Errorf("insert: %v", err)
				}
			}
		})
	}
	for i := range n {
		work <- i
	}
	close(work)
	inserting.Wait()
}
