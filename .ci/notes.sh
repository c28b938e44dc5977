#!/bin/sh
# Prints the section of CHANGELOG.md on a version: notes.sh v1.2.3
# Fails when there is none.
set -eu
cd "$(dirname "$0")/.."

notes=$(awk -v heading="## [${1#v}]" '
	/^## / || /^\[.*\]: / { inside = index($0, heading) == 1; next }
	inside' CHANGELOG.md)
if [ -z "$(printf %s "$notes" | tr -d '[:space:]')" ]; then
	echo "CHANGELOG.md has no section on ${1#v}" >&2
	exit 1
fi
printf '%s\n' "$notes"
