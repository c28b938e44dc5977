// Package deploytest tests what is in deploy with the programs that read it. It
// holds tests and nothing else, skips none of them where a program is missing,
// and touches nothing on the machine but what it started itself.
package deploytest
