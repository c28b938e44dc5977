// Package processtest tests callbackd as a black box: the built binary in separate
// processes, a real Postgres, the sandbox as another process, real name servers and
// load balancers. It contains only tests, and looks only at what an operator or a
// client can see.
package processtest
