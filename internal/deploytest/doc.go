// Package deploytest tests deploy and the releases with the programs that read
// them. It contains only tests and deploys nothing: everything it starts runs on
// this machine and ends with the test. Tests that need more programs than `make
// test` has carry the build tag deploy.
package deploytest
