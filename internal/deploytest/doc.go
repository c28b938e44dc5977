// Package deploytest tests what is in deploy with the programs that read it.
//
// It runs with the build tag deploy only, and takes nothing for granted that the
// programs themselves do not say.
package deploytest
