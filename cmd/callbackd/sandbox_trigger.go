package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"callbackd/internal/sandbox"
	"callbackd/internal/sandbox/journey"
)

// triggerTimeout bounds a request to the sandbox.
const triggerTimeout = 30 * time.Second

// trigger is the body of the sandbox's POST /_sandbox/journeys.
type trigger struct {
	Kind          string `json:"kind"`
	Count         int    `json:"count"`
	UserReference string `json:"user_reference,omitempty"`
}

func newSandboxTriggerCommand() *cobra.Command {
	var t trigger
	var address string
	cmd := &cobra.Command{
		Use:   "trigger KIND",
		Short: "Starts journeys at a running sandbox, which posts their callbacks",
		Long: `Starts journeys of a kind at a running sandbox, which posts their callbacks to its
--callback-url. Prints a line for each: the id of the workflow execution, a tab and
the id of the account. ` + "`callbackd sandbox --list-kinds` lists the kinds.",
		Example: `  callbackd sandbox trigger passed-passport --user-reference user-1
  callbackd sandbox trigger session-expired --count 10 --url http://127.0.0.1:9481`,
		Args: func(_ *cobra.Command, args []string) error {
			if _, err := journey.Find(args[0]); err != nil {
				return fmt.Errorf("%w; `callbackd sandbox --list-kinds` lists them", err)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			t.Kind = args[0]
			u, err := url.Parse(address)
			switch {
			case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
				return wrongUsage(cmd, errors.New("--url must be an http or https address"))
			case t.Count < 1:
				return wrongUsage(cmd, fmt.Errorf("--count %d is not positive", t.Count))
			}
			entries, err := t.start(cmd.Context(), u.JoinPath("/_sandbox/journeys").String())
			for _, e := range entries {
				fmt.Fprintf(cmd.OutOrStdout(), "%s\t%s\n", e.WorkflowExecutionID, e.AccountID)
			}
			return err
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&t.UserReference, "user-reference", "", "userReference of the journeys (default: the sandbox's)")
	flags.IntVar(&t.Count, "count", 1, "how many journeys to start")
	flags.StringVar(&address, "url", "http://127.0.0.1:9480", "address of the sandbox")
	return cmd
}

// start asks the sandbox for the journeys.
func (t trigger) start(ctx context.Context, address string) ([]sandbox.Entry, error) {
	ctx, cancel := context.WithTimeout(ctx, triggerTimeout)
	defer cancel()
	body, err := json.Marshal(t)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	client := &http.Client{}
	defer client.CloseIdleConnections()
	answer, err := client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("ask the sandbox: %w", err)
	}
	defer answer.Body.Close()
	if body, err = io.ReadAll(answer.Body); err != nil {
		return nil, fmt.Errorf("read the sandbox's answer: %w", err)
	}
	if answer.StatusCode != http.StatusAccepted {
		var problem struct{ Detail string }
		_ = json.Unmarshal(body, &problem) // empty if it is none
		return nil, fmt.Errorf("the sandbox at %s answered %d %s", request.URL.Host, answer.StatusCode, problem.Detail)
	}
	var entries []sandbox.Entry
	if err := json.Unmarshal(body, &entries); err != nil {
		return nil, fmt.Errorf("read the sandbox's answer: %w", err)
	}
	return entries, nil
}
