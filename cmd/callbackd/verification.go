package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"callbackd/internal/app"
	"callbackd/internal/budget"
	"callbackd/internal/config"
	"callbackd/internal/jumio"
	"callbackd/internal/store"
)

func newVerificationCommand(p *process) *cobra.Command {
	verification := &cobra.Command{
		Use:   "verification",
		Short: "Starts a verification at Jumio, uploads to it, asks for it, tells its story",
		Long: `Starts a verification at Jumio by the parameters of Jumio's guide, and remembers that
its callback is expected: jumio.verifications has a row for it before the link is
printed. Through the web or the SDK the person does the rest; through the API, upload
and finalize do. fetch asks Jumio for one now, and show tells all that is known of it.`,
	}
	verification.AddCommand(newCreateCommand(p), newUploadCommand(p), newFinalizeCommand(p), newFetchCommand(p), newShowCommand(p))
	return verification
}

// newJumioClient makes the client of one command.
func newJumioClient(c *config.Config, budget jumio.Budget) (*jumio.Client, error) {
	cfg := app.JumioConfig(c)
	cfg.Budget = budget
	return jumio.New(cfg, zap.NewNop(), jumio.NewMetrics(prometheus.NewRegistry()))
}

// withSharedBudget calls Jumio within the budget that all instances share.
func withSharedBudget(cfg *config.Config, db *store.DB, do func(*jumio.Client) error) error {
	shared := budget.New(budget.Options{DB: db, RetrievalRPS: cfg.RetrievalRPS, Log: zap.NewNop()})
	defer shared.Close()
	client, err := newJumioClient(cfg, shared)
	if err != nil {
		return err
	}
	defer client.Close()
	return do(client)
}

// withoutCredentials calls Jumio for a command that needs no credentials, and so nothing
// that takes a budget.
func withoutCredentials(p *process, do func(*jumio.Client) error) error {
	cfg, err := config.Jumio(p.environ, false)
	if err != nil {
		return err
	}
	client, err := newJumioClient(cfg, jumio.NewLocalBudget(cfg.RetrievalRPS))
	if err != nil {
		return err
	}
	defer client.Close()
	return do(client)
}

// inputLimit is the size limit of a request body or an answer, in bytes.
const inputLimit = 1 << 20

// readInput reads a small file, or stdin if its name is -. Its error shows the name and
// nothing of the content.
func readInput(p *process, name string) ([]byte, error) {
	in := p.stdin
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer func() { _ = file.Close() }()
		in = file
	}
	content, err := io.ReadAll(io.LimitReader(in, inputLimit+1))
	if err == nil && len(content) > inputLimit {
		err = fmt.Errorf("read %s: it is over %d bytes", name, inputLimit)
	}
	return content, err
}

// printAnswer writes an answer as it came, and ends its last line.
func printAnswer(p *process, answer []byte) error {
	if n := len(answer); n == 0 || answer[n-1] != '\n' {
		answer = append(answer[:n:n], '\n')
	}
	_, err := p.stdout.Write(answer)
	return err
}

// readAnswer reads the answer that create printed.
func readAnswer(p *process, name string) (*jumio.Creation, error) {
	content, err := readInput(p, name)
	if err != nil {
		return nil, err
	}
	created, err := jumio.ParseCreation(content)
	if e, ok := errors.AsType[*jumio.Error](err); ok {
		err = e.Err // its code and endpoint would tell of a request
	}
	if err != nil {
		return nil, fmt.Errorf("%s is not an answer that create printed: %w", name, err)
	}
	return created, nil
}

func newFinalizeCommand(p *process) *cobra.Command {
	return &cobra.Command{
		Use:   "finalize ANSWER",
		Short: "Tells Jumio that all is uploaded",
		Long: `Tells Jumio that all parts of a verification are uploaded, so that it begins with its
work. ANSWER is the file with the answer that create printed, or - for stdin; the token
is taken from there.

Needs JUMIO_USER_AGENT, and JUMIO_API_URL if it is set for create.`,
		Example: "  callbackd verification finalize answer.json",
		RunE: func(c *cobra.Command, args []string) error {
			return withoutCredentials(p, func(client *jumio.Client) error {
				return finalize(c.Context(), p, client, args[0])
			})
		},
	}
}

func finalize(ctx context.Context, p *process, client *jumio.Client, name string) error {
	created, err := readAnswer(p, name)
	if err != nil {
		return err
	}
	link, err := client.FinalizeLink(created)
	if err != nil {
		return err
	}
	if _, err := client.Finalize(ctx, link); err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.stdout, "finalized %s\n", created.WorkflowExecutionID)
	return err
}
