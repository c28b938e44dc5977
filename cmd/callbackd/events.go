package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"
	"unicode/utf16"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"callbackd/internal/store"
	"callbackd/internal/store/consuming"
	"callbackd/internal/workflow"
)

func newEventsCommand(p *process) *cobra.Command {
	events := &cobra.Command{
		Use:   "events",
		Short: "Follows what happens to workflow executions",
	}
	var t tail
	var from string
	command := &cobra.Command{
		Use:   "tail",
		Short: "Follows jumio.events until Ctrl-C",
		Long: `Prints a line for each event: time, event_id, type, workflow execution, account, user
reference, retrieval_state and decision_type, "-" for what is not known; or with --json
an object with the columns of jumio.events. It waits out an outage of the database.

Without --consumer it prints what happens from now on. With it, it goes on after the
last event that this consumer has handled, and keeps that place in jumio.consumers; a
new consumer starts at the beginning. The place moves on once lines are written, so a
line may come again after a crash, and none is missed. With --type it also moves on
over the events of other types.

Needs DATABASE_URL, with a role that is a member of jumio_reader, and for --consumer of
jumio_consumer.`,
		Annotations: map[string]string{roleNeeded: "a member of jumio_reader, and for --consumer of jumio_consumer"},
		RunE: func(c *cobra.Command, _ []string) (err error) {
			if t.from, err = t.check(c.Flags().Changed("consumer"), from, time.Now()); err != nil {
				return wrongUsage(c, err)
			}
			return withDatabase(c, p, func(db *store.DB) error { return t.follow(c.Context(), p, db) })
		},
	}
	command.Flags().StringVar(&t.consumer, "consumer", "", "the consumer whose place to keep; 1 to 64 characters of A-Z a-z 0-9 _ . -")
	command.Flags().StringSliceVar(&t.types, "type", nil, "only events of this type; may be repeated")
	command.Flags().BoolVar(&t.json, "json", false, "one JSON object a line")
	command.Flags().StringVar(&from, "from", "", "where to start: beginning, now or an RFC 3339 time; a consumer that exists goes on from its place")
	events.AddCommand(command)
	return events
}

// tail is what `events tail` is told.
type tail struct {
	consumer string
	types    []string
	json     bool
	from     consuming.From
}

// check checks the flags, and returns where to start.
func (t *tail) check(hasConsumer bool, from string, now time.Time) (consuming.From, error) {
	if hasConsumer && !consuming.ValidConsumer(t.consumer) {
		return 0, fmt.Errorf("--consumer: %q is not 1 to 64 characters of A-Z a-z 0-9 _ . -", t.consumer)
	}
	for _, name := range t.types {
		if !slices.Contains(consuming.Types, workflow.EventType(name)) {
			return 0, fmt.Errorf("--type: %q is none of %s", name, listTypes())
		}
	}
	switch {
	case from == "beginning", from == "" && hasConsumer:
		return consuming.Beginning, nil
	case from == "now", from == "":
		return consuming.Now, nil
	}
	at, err := time.Parse(time.RFC3339, from)
	switch {
	case err != nil:
		return 0, fmt.Errorf("--from: %q is neither beginning nor now nor an RFC 3339 time such as 2026-11-30T12:00:00Z", from)
	case at.After(now):
		return 0, fmt.Errorf("--from: %s is in the future", from)
	}
	return consuming.At(at), nil
}

func listTypes() string {
	names := make([]string, len(consuming.Types))
	for i, t := range consuming.Types {
		names[i] = string(t)
	}
	return strings.Join(names, ", ")
}

// follow prints events until ctx ends or stdout is closed.
func (t *tail) follow(ctx context.Context, p *process, db *store.DB) error {
	// With this, a write to a closed stdout fails instead of ending the process.
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGPIPE)
	defer signal.Stop(signals)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if stdout, ok := p.stdout.(*os.File); ok {
		go func() {
			awaitClosed(ctx, stdout)
			cancel()
		}()
	}
	err := consuming.Follow(ctx, db, consuming.Options{
		Consumer: t.consumer,
		From:     t.from,
		Handle:   func(events []consuming.Event) error { return t.print(p.stdout, events) },
		Outage: func(err error) {
			if err != nil {
				fmt.Fprintf(p.stderr, "callbackd: %v; trying again\n", err)
			} else {
				fmt.Fprintln(p.stderr, "callbackd: the database is back")
			}
		},
	})
	if errors.Is(err, syscall.EPIPE) { // whoever read stdout, such as head, has had enough
		return nil
	}
	return err
}

// awaitClosed waits until nobody reads the pipe that stdout is, or ctx ends. Otherwise
// `events tail | head` would stay until the next event.
func awaitClosed(ctx context.Context, stdout *os.File) {
	const interval = 500                           // milliseconds, after which ctx is looked at
	fds := []unix.PollFd{{Fd: int32(stdout.Fd())}} //nolint:gosec // a small number
	for ctx.Err() == nil {
		if _, err := unix.Poll(fds, interval); err != nil && !errors.Is(err, unix.EINTR) {
			<-ctx.Done() // it cannot be seen; the next write will tell
		}
		if fds[0].Revents != 0 {
			return
		}
	}
}

// print writes the events of the wanted types in one piece.
func (t *tail) print(stdout io.Writer, events []consuming.Event) error {
	var lines []byte
	for i := range events {
		e := &events[i]
		if len(t.types) > 0 && !slices.Contains(t.types, string(e.Type)) {
			continue
		}
		if t.json {
			lines = append(lines, jsonLine(e)...)
		} else {
			lines = append(lines, plainLine(e)...)
		}
	}
	if len(lines) == 0 {
		return nil
	}
	_, err := stdout.Write(lines)
	return err
}

func plainLine(e *consuming.Event) string {
	words := []string{
		e.OccurredAt.UTC().Format(time.RFC3339Nano), strconv.FormatInt(e.ID, 10), string(e.Type), e.WorkflowExecutionID, e.AccountID,
		e.UserReference, string(e.RetrievalState), e.DecisionType,
	}
	for i, word := range words {
		words[i] = plainWord(word)
	}
	return strings.Join(words, "  ") + "\n"
}

// plainWord quotes what would not be one word, or what a terminal may obey: a user
// reference may be a stranger's text.
func plainWord(word string) string {
	if quoted := strconv.Quote(word); quoted != `"`+word+`"` || strings.Contains(word, " ") {
		return quoted
	}
	return cmp.Or(word, "-")
}

// jsonLine returns an object with the columns of jumio.events.
func jsonLine(e *consuming.Event) string {
	line, _ := json.Marshal(struct { // fails for other types only
		EventID             int64              `json:"event_id"`
		OccurredAt          time.Time          `json:"occurred_at"`
		Type                workflow.EventType `json:"type"`
		WorkflowExecutionID string             `json:"workflow_execution_id"`
		AccountID           *string            `json:"account_id"`
		UserReference       *string            `json:"user_reference"`
		RetrievalState      *string            `json:"retrieval_state"`
		DecisionType        *string            `json:"decision_type"`
		Changed             *bool              `json:"changed"`
	}{
		e.ID, e.OccurredAt.UTC(), e.Type, e.WorkflowExecutionID, orNull(e.AccountID), orNull(e.UserReference),
		orNull(string(e.RetrievalState)), orNull(e.DecisionType), e.Changed,
	})
	return escapeControls(string(line)) + "\n"
}

func orNull(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

// escapeControls escapes what a terminal may obey and JSON allows in strings.
func escapeControls(line string) string {
	var escaped strings.Builder
	for _, r := range line {
		if unicode.IsPrint(r) {
			escaped.WriteRune(r)
			continue
		}
		for _, unit := range utf16.Encode([]rune{r}) {
			fmt.Fprintf(&escaped, `\u%04x`, unit)
		}
	}
	return escaped.String()
}
