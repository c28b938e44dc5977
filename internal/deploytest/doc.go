// Package deploytest tests what is in deploy with the programs that read it. It
// holds tests and nothing else, and deploys nothing: all that it starts runs on
// loopback and ends with the test.
package deploytest
