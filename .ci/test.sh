#!/bin/sh
# Runs all tests with the race detector.
#
# A machine that stands still for a minute, as a virtual one does while it is saved or
# moved, fails tests that are right: callbackd's own time-outs run on, and what it does then
# is what it should do. Tests that fail in such a run are run once more, and only they. A
# data race, a panic, a time-out of the whole, and a package that fails without a test are not.
set -u
cd "$(dirname "$0")/.."

# Go's own second at the exit of each process that has the race detector is cut short.
export CGO_ENABLED=1 GORACE=atexit_sleep_ms=20

# All that the tests build is compiled before them: compilers beside them would take from
# them the time that they give a busy machine.
go list -race -test -deps -export ./... >/dev/null || exit
CGO_ENABLED=0 go build ./cmd/callbackd ./examples/consumer-go || exit
(cd internal/imagestore/versitygw && CGO_ENABLED=0 go tool -n versitygw) >/dev/null || exit

# seconds that a machine which runs does not stand still
limit=10

dir=$(mktemp -d)
watch() {
	last=$(date +%s)
	while sleep 1; do
		now=$(date +%s)
		[ $((now - last)) -lt "$limit" ] || echo "$((now - last)) s until $(date -u +%H:%M:%S) UTC" >>"$dir/standstills"
		last=$now
	done
}
watch &
watcher=$!
trap 'kill "$watcher"; rm -rf "$dir"' EXIT

# The package that takes longest begins first.
{
	go test -race -timeout 18m ./internal/processtest ./...
	echo $? >"$dir/code"
} 2>&1 | tee "$dir/output"
code=$(cat "$dir/code")

tests=$(sed -n 's/^--- FAIL: \([A-Za-z0-9_]*\) .*/\1/p' "$dir/output" | sort -u | paste -s -d '|' -)
packages=$(sed -n 's/^FAIL[[:space:]]*\(callbackd[^[:space:]]*\).*/\1/p' "$dir/output" | sort -u)
# A package's tests stand before it.
testless=$(awk '/^--- FAIL: /{named=1} /^ok /{named=0} /^FAIL[[:space:]]+callbackd/{if(!named)print $2; named=0}' "$dir/output")
if [ "$code" = 0 ] || [ ! -s "$dir/standstills" ] || [ -z "$tests" ] || [ -n "$testless" ] || grep -q -e 'DATA RACE' -e '^panic:' "$dir/output"; then
	exit "$code"
fi
printf '\nDuring the tests this machine stood still for\n'
cat "$dir/standstills"
echo "Once more, therefore: $tests"
# shellcheck disable=SC2086 # a list
go test -race -timeout 10m -count=1 -run "^($tests)\$" $packages
