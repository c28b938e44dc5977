// Package processtest tests callbackd as a black box: the built binary in
// processes of its own, a real Postgres, the sandbox as another process, real
// name servers and load balancers. It holds tests and nothing else, and looks
// at nothing that an operator or a client could not see.
package processtest
