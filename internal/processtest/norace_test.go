//go:build !race

package processtest

var raceFlags []string

// spooled are the callbacks that an instance drains in a test.
const spooled = 100_000

// mostMemory is what a draining instance may take, in bytes.
const mostMemory = 128 << 20
