// Command findpostgres prints the directory of the PostgreSQL server programs,
// or says how to get them and exits 1. The Makefile runs it, so that there is one
// list of places to look.
package main

import (
	"fmt"
	"os"

	"callbackd/internal/pgserver"
)

func main() {
	dir, err := pgserver.Find()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(dir)
}
