package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"callbackd/internal/config"
	"callbackd/internal/jumio"
)

func newJumioHealthCommand(p *process) *cobra.Command {
	return &cobra.Command{
		Use:   "jumio-health [DATA_CENTER...]",
		Short: "Prints what Jumio says of its services; exits 1 unless all are UP",
		Long: `Asks Jumio for the state of its services and prints a line for each data center: its
name, the state of the whole, and those of single services where Jumio names them. Exits
1 unless all of it is UP.

Without arguments it asks JUMIO_DATA_CENTER, or if that is not set every data center with
credentials. Jumio is asked without authorization. Needs JUMIO_USER_AGENT.`,
		Example: "  callbackd jumio-health amer-1 emea-1",
		RunE: func(c *cobra.Command, args []string) error {
			return withoutCredentials(p, func(client *jumio.Client) error { return jumioHealth(c, p, client, args) })
		},
	}
}

func jumioHealth(c *cobra.Command, p *process, client *jumio.Client, dataCenters []string) error {
	known := client.CredentialedDataCenters()
	for _, name := range dataCenters {
		if !slices.Contains(jumio.DataCenters(), name) && !slices.Contains(known, name) {
			return wrongUsage(c, fmt.Errorf("%q is not a data center; Jumio's are %s", name, strings.Join(jumio.DataCenters(), ", ")))
		}
	}
	if len(dataCenters) == 0 {
		own, err := config.Lookup(p.environ, "JUMIO_DATA_CENTER")
		if err != nil {
			return err
		}
		if dataCenters = known; own != "" {
			dataCenters = []string{own}
		}
	}
	if len(dataCenters) == 0 {
		return wrongUsage(c, errors.New("missing argument DATA_CENTER: neither JUMIO_DATA_CENTER nor credentials name one"))
	}
	lines, troubled := askHealth(c.Context(), client, dataCenters)
	if _, err := fmt.Fprint(p.stdout, strings.Join(lines, "")); err != nil {
		return err
	}
	if len(troubled) > 0 {
		return errors.New("not all of Jumio's services are UP: " + strings.Join(troubled, ", "))
	}
	return nil
}

// askHealth asks all data centers at once. It returns a line for each, and the names of
// those that are not up.
func askHealth(ctx context.Context, client *jumio.Client, dataCenters []string) (lines, troubled []string) {
	lines = make([]string, len(dataCenters))
	up := make([]bool, len(dataCenters))
	var wg sync.WaitGroup
	for i, name := range dataCenters {
		wg.Go(func() {
			health, err := client.Health(ctx, name)
			if err != nil {
				lines[i] = fmt.Sprintf("%s  unknown (%v)\n", name, err)
				return
			}
			up[i] = health.Up()
			lines[i] = healthLine(name, health)
		})
	}
	wg.Wait()
	for i, name := range dataCenters {
		if !up[i] {
			troubled = append(troubled, name)
		}
	}
	return lines, troubled
}

// healthLine is the line of one data center; a state that the guide does not know shows as
// unknown.
func healthLine(name string, health *jumio.Health) string {
	line := name + "  " + cmp.Or(health.Status, "unknown")
	for _, service := range slices.Sorted(maps.Keys(health.Details)) {
		line += "  " + service + "=" + cmp.Or(health.Details[service], "unknown")
	}
	return line + "\n"
}
