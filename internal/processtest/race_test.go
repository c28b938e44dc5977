//go:build race

package processtest

// raceFlags build the binary like the tests: with the race detector, a process
// that raced exits with 66.
var raceFlags = []string{"-race"}

// spooled is how many callbacks an instance drains in a test, few enough for the race detector.
const spooled = 25_000

// mostMemory is what a draining instance may take, in bytes. The race detector takes a multiple.
const mostMemory = 1 << 30
