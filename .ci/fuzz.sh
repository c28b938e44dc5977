#!/bin/sh
# Runs every fuzz target for the given time: fuzz.sh 30s
# A target that fails has written its input below testdata/fuzz of its package,
# where every later `go test` runs it again: fix the fault, commit the input.
set -u
cd "$(dirname "$0")/.."

list=$(go test -list '^Fuzz' ./...) || exit 1
targets=$(echo "$list" | awk '/^Fuzz/ { names[n++] = $1 }
	$1 == "ok" { for (i = 0; i < n; i++) print $2, names[i]; n = 0 }')
if [ -z "$targets" ]; then
	echo "no fuzz target found" >&2
	exit 1
fi

failed=""
while read -r package target; do
	echo "$package $target"
	go test -run '^$' -fuzz "^$target\$" -fuzztime "$1" -fuzzminimizetime 5s "$package" </dev/null ||
		failed="$failed $target"
done <<END
$targets
END
if [ -n "$failed" ]; then
	echo "failed:$failed" >&2
	exit 1
fi
