package workflow_test

import (
	"fmt"
	"time"

	"callbackd/internal/workflow"
)

func ExampleSchedule_Next() {
	schedule := workflow.Schedule{0, 40 * time.Second, time.Minute}
	failedAt := time.Date(2021, 1, 21, 12, 0, 0, 0, time.UTC)
	retryAfter := failedAt.Add(90 * time.Second) // Jumio's Retry-After

	fmt.Println(schedule.Next(1, failedAt, time.Time{}).Format(time.TimeOnly))
	fmt.Println(schedule.Next(2, failedAt, retryAfter).Format(time.TimeOnly))
	// Output:
	// 12:00:40
	// 12:01:30
}

// An attempt that got the details but misses an image, with no attempt left.
func ExampleConclude() {
	c := workflow.Conclude(workflow.Result{
		Failure: "server_error: image answered 500", Last: true,
		Status: workflow.StatusProcessed, HasDetails: true, Parts: 3, Missing: 1,
	}, "")
	fmt.Println(c.State, c.Event)
	fmt.Println(c.Error)
	// Output:
	// partial retrieved
	// server_error: image answered 500 (1 of 3 images missing)
}
