//go:build race

package processtest

// raceFlags build the binary like the tests: with the race detector, a process
// that raced exits with 66.
var raceFlags = []string{"-race"}
