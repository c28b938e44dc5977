package main

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"callbackd/internal/app"
)

// Set by the linker: -ldflags "-X main.version=v1.2.3 -X main.commit=0a1b2c3".
var version, commit string

// thisBuild gives what the linker was told, or else what the Go command recorded.
func thisBuild() app.Build {
	b := app.Build{Version: version, Commit: commit, GoVersion: runtime.Version()}
	if info, ok := debug.ReadBuildInfo(); ok {
		b.Version = cmp.Or(b.Version, info.Main.Version)
		for _, setting := range info.Settings {
			if setting.Key == "vcs.revision" {
				b.Commit = cmp.Or(b.Commit, setting.Value)
			}
		}
	}
	b.Version = cmp.Or(b.Version, "unknown")
	b.Commit = cmp.Or(b.Commit, "unknown")
	return b
}

func newVersionCommand(p *process) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Prints version, commit and Go version",
		RunE: func(*cobra.Command, []string) error {
			b := thisBuild()
			_, err := fmt.Fprintf(p.stdout, "callbackd %s\ncommit %s\n%s\n", b.Version, b.Commit, b.GoVersion)
			return err
		},
	}
}
