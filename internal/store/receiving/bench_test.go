package receiving_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"callbackd/internal/callback"
	"callbackd/internal/store/storetest"
)

// BenchmarkInsertCallback is the group commit, by the number of those who store
// a callback at a time. The tests' own Postgres does not fsync; with
// DATABASE_URL, the one that it names does as it is set.
func BenchmarkInsertCallback(b *testing.B) {
	for _, parallel := range []int{1, 64, 256} {
		b.Run(fmt.Sprint(parallel), func(b *testing.B) {
			s := storetest.New(b)
			callbacks := make(chan *callback.Callback, b.N)
			for i := range b.N {
				c := storetest.Callback(fmt.Sprintf("w-%d", i))
				c.Body = make([]byte, 482)
				callbacks <- c
			}
			close(callbacks)
			b.ResetTimer()
			var inserting sync.WaitGroup
			for range parallel {
				inserting.Go(func() {
					for c := range callbacks {
						if err := s.InsertCallback(context.Background(), c); err != nil {
							b.Errorf("insert: %v", err)
							return
						}
					}
				})
			}
			inserting.Wait()
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "callbacks/s")
			b.ReportMetric(meanBatch(b, s.Registry), "callbacks/batch")
		})
	}
}

// meanBatch is the mean of callbackd_ingest_batch_size.
func meanBatch(b *testing.B, registry *prometheus.Registry) float64 {
	b.Helper()
	families, err := registry.Gather()
	if err != nil {
		b.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == "callbackd_ingest_batch_size" {
			size := family.GetMetric()[0].GetHistogram()
			return size.GetSampleSum() / float64(size.GetSampleCount())
		}
	}
	b.Fatal("callbackd_ingest_batch_size is not there")
	return 0
}
