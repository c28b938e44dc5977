// Package deploytest tests what is in deploy, and what is released, with the
// programs that read it. It holds tests and nothing else, and deploys nothing:
// all that it starts is on this machine and ends with the test. What needs more
// programs than `make test` has carries the build tag deploy.
package deploytest
