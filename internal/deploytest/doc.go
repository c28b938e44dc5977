// Package deploytest tests what is in deploy with the programs that read it.
// It holds tests and nothing else, skips none of them where a program is
// missing, and looks into no room but the list of settings.
package deploytest
