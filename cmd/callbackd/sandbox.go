package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"callbackd/internal/app"
	"callbackd/internal/config"
	"callbackd/internal/sandbox"
	"callbackd/internal/sandbox/journey"
)

// sandboxFlags are the flags of the sandbox command.
type sandboxFlags struct {
	listen         string
	stopWithin     time.Duration
	clientID       string
	clientSecret   string
	journeys       int
	kinds          []string
	rate           float64 // journeys a second
	exitAfterSent  bool
	listKinds      bool
	logLevel       string
	sandbox.Config // for the other flags
}

const sandboxHelp = `Serves a Jumio to develop against: every API of Jumio's guide at one address,
strict about headers, credentials and limits, and the web journey, with journeys
of invented people whose documents are drawn. With --callback-url it posts the
journeys' callbacks as Jumio does.

Point callbackd serve at it with these settings:

  JUMIO_CLIENT_ID=sandbox
  JUMIO_CLIENT_SECRET=sandbox
  JUMIO_USER_AGENT='YourCompany YourApp/v1.0'
  JUMIO_TOKEN_URL=http://127.0.0.1:9480
  JUMIO_RETRIEVAL_URL=http://127.0.0.1:9480
  JUMIO_ACCOUNT_URL=http://127.0.0.1:9480
  JUMIO_API_URL=http://127.0.0.1:9480
  JUMIO_STATUS_URL=http://127.0.0.1:9480
  CALLBACKD_ALLOWED_CIDRS=127.0.0.0/8

A workflow execution that a client creates waits for its user. It ends when it is
finalized, over the API or in the page that web.href leads to; parts that were not
uploaded are drawn, as if they came by the SDK. Otherwise it ends as TOKEN_EXPIRED
or, 15 minutes after the last upload or click, as SESSION_EXPIRED; --speed 60 makes
a minute pass in a second. How a finalized one ends is drawn, or asked for with
words in reportingCriteria: kind=KIND and fault=FAULT, which can be repeated. It
lives in the data center of the client that creates it (see --client), else in
--data-center, else in amer-1.

The sandbox's own pages need no credentials. They answer under an IP address,
localhost, a name without a dot and the name in --listen, and reject requests
from other sites' pages:

  GET  /_sandbox/                         journeys, for people
  GET  /_sandbox/web                      a page that embeds a web.href and shows its events
  GET  /_sandbox/ledger                   what was served and sent, and what a client should have
  GET  /_sandbox/kinds                    the kinds of journeys
  GET  /_sandbox/journeys/ID[/details]    one journey
  POST /_sandbox/journeys                 starts journeys: kind, count, rate, faults, callback_url, user_reference, hold
  POST /_sandbox/journeys/ID/callbacks    sends one more callback with a status, or all of them again
  POST /_sandbox/faults                   sets the faults of all requests from now on
  POST /_sandbox/health                   sets the answer of the Health Check: data_center (all without it), status,
                                          details; while retrieval or api is DOWN there, these APIs answer 503
  POST /_sandbox/tokens/revoke            revokes all access tokens

Faults are written endpoint:kind[:times][:option=value]..., for example
image:truncated:2 or details:429:1:retry-after=2s. The endpoint is token, account
(creation and update), upload, finalize, status, details, image, delete, health or
callback; times is how many requests of each journey are hit, and of all for token,
account and health (default or 0: every one). Options: for=10s ends the fault that long
after its first hit, part=BACK limits it to one image, retry-after and delay
belong to their kinds. The kinds:

`

func newSandboxCommand(p *process) *cobra.Command {
	var f sandboxFlags
	cmd := &cobra.Command{
		Use:   "sandbox",
		Short: "Runs a Jumio stand-in: all its APIs, the web journey and callbacks, able to misbehave on request",
		Long:  sandboxHelp + strings.TrimRight(sandbox.FaultHelp(), "\n"),
		Example: `  callbackd sandbox --callback-url http://127.0.0.1:8080/jumio/callback --journeys 20 --rate 2/s
  callbackd sandbox --callback-url http://127.0.0.1:8080/jumio/callback --fault-rate 0.3 --seed 7
  callbackd sandbox --callback-url http://127.0.0.1:8080/jumio/callback --kind passed-passport --fault image:truncated:2
  callbackd sandbox trigger session-expired
  curl -d '{"data_center":"emea-1","status":"DOWN","details":{"retrieval":"DOWN"}}' http://127.0.0.1:9480/_sandbox/health`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.completeCallbackURL(p.environ); err != nil {
				return err
			}
			return runSandbox(cmd, f)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.listen, "listen", "127.0.0.1:9480", "address to listen on; port 0 takes a free one")
	flags.StringVar(&f.clientID, "client-id", "sandbox", "accepted client id")
	flags.StringVar(&f.clientSecret, "client-secret", "sandbox", "its secret")
	flags.Func("client", "another client, `ID:SECRET[:DATACENTER]`; with a data center it sees only the workflows there", f.addClient)
	flags.DurationVar(&f.TokenLifetime, "token-lifetime", time.Hour, "how long an access token is valid")
	flags.StringVar(&f.DataCenter, "data-center", "", "data center of every workflow: "+strings.Join(journey.DataCenters, ", ")+" (default: drawn)")
	flags.BoolVar(&f.OwnHrefs, "own-hrefs", false, "hrefs point at the sandbox instead of https://retrieval.<data center>.jumio.ai")
	flags.Float64Var(&f.RequestsPerSecond, "rps", 0, "limit of retrieval requests a second, answered with 429 beyond it; 0: unlimited (Jumio: 15)")

	flags.Float64Var(&f.AccountsPerSecond, "account-rps", 0, "limit of account creations and updates a second, answered with 429 beyond it; 0: unlimited (Jumio: 1)")
	flags.StringVar(&f.StatusDataCenter, "status-data-center", "", "whose health the Health Check answers (default: the worst of all)")
	flags.Float64Var(&f.Speed, "speed", 1, "how many times faster tokens and sessions of created workflow executions expire, and --processing passes")
	flags.DurationVar(&f.Processing, "processing", 0, "time between a finalization and its result")

	flags.StringVar(&f.CallbackURL, "callback-url", "", "where callbacks are posted; a URL without a path gets that of CALLBACKD_CALLBACK_PATH; without a URL nothing is sent")
	flags.IntVar(&f.journeys, "journeys", 20, "how many journeys to send")
	flags.StringSliceVar(&f.kinds, "kind", nil, "kinds of journeys, sent in turn (default: the mix); see --list-kinds")
	flags.Func("rate", "how fast journeys are sent, such as `2/s` or 30/m (default: as fast as they are answered)", f.setRate)
	flags.StringVar((*string)(&f.CallbackForm), "callback-form", string(sandbox.FormJSON), "how callback bodies are written: json, dotted, bracketed, json-values, single-key or single-value")
	flags.StringVar(&f.CallbackContentType, "callback-content-type", "", "Content-Type of callbacks (default: that of --callback-form)")
	flags.Func("callback-header", "header added to callbacks, `'Name: value'`, such as 'X-Forwarded-For: 34.202.241.227'", f.addHeader)
	flags.Func("ca-file", "`file` of PEM certificates to trust, besides the system's, when callbacks go to https", f.addCAs)
	flags.IntVar(&f.Repeat, "repeat", 0, "how often a callback that is not answered with 200 is sent again (what Jumio does is unknown)")
	flags.DurationVar(&f.RepeatPause, "repeat-pause", time.Second, "pause before a callback is sent again")
	flags.Float64Var(&f.Intermediate, "intermediate", 0.3, "share of journeys, 0 to 1, that report ACQUISITION_STARTED and ACQUIRED first")
	flags.StringVar(&f.UserReference, "user-reference", "", "userReference of every journey (default: drawn)")
	flags.DurationVar(&f.CallbackTimeout, "callback-timeout", 30*time.Second, "how long an answer to a callback may take")
	flags.DurationVar(&f.stopWithin, "stop-within", 5*time.Second, "how long open requests may take at the end")
	flags.BoolVar(&f.exitAfterSent, "exit-after-sent", false, "exit when the callbacks are sent, with 1 if one was not answered with 200")

	flags.Uint64Var(&f.Seed, "seed", 1, "decides ids, people, images and drawn faults: the same seed sends the same workflow executions again")
	flags.Func("fault", "`fault` of every journey; can be repeated", faultsInto(&f.Faults))
	flags.Float64Var(&f.FaultRate, "fault-rate", 0, "share of journeys, 0 to 1, that draw a fault")
	flags.Func("fault-pool", "`fault` to draw from instead of the built-in ones, which all pass; can be repeated", faultsInto(&f.FaultPool))
	flags.IntVar(&f.Attempts, "attempts", 10, "retrievals that the client makes before it gives up, for the end states in the ledger")
	flags.IntVar(&f.DetailsBytes, "details-bytes", 0, "pad details to about this many bytes, in the extraction's data.dlCategories")
	flags.IntVar(&f.ImageBytes, "image-bytes", 0, "pad images to this many bytes")
	flags.BoolVar(&f.FastImages, "fast-images", false, "draw one picture per document instead of one per person, for benchmarks")
	flags.IntVar(&f.MaxJourneys, "max-journeys", 20_000, "journeys remembered; older ones are forgotten")
	flags.BoolVar(&f.listKinds, "list-kinds", false, "list the kinds of journeys and exit")
	flags.StringVar(&f.logLevel, "log-level", "info", "debug, info, warn or error; info shows rejected requests, debug every callback")
	cmd.AddCommand(newSandboxTriggerCommand())
	return cmd
}

// completeCallbackURL adds CALLBACKD_CALLBACK_PATH to a callback URL without a
// path, so that a secret path need not stand on a command line.
func (f *sandboxFlags) completeCallbackURL(environ []string) error {
	u, invalid := url.Parse(f.CallbackURL) // newSandbox reports it
	if invalid == nil && u.Host != "" && u.Path == "" {
		path, err := config.Lookup(environ, "CALLBACKD_CALLBACK_PATH")
		if err != nil {
			return err
		}
		f.CallbackURL = u.JoinPath(path).String()
	}
	return nil
}

func runSandbox(cmd *cobra.Command, f sandboxFlags) error {
	out := cmd.OutOrStdout()
	if f.listKinds {
		for _, k := range journey.Kinds() {
			fmt.Fprintf(out, "%-44s %s\n", k.Name, k.Description)
		}
		return nil
	}
	s, err := f.newSandbox(cmd.ErrOrStderr())
	if err != nil {
		return wrongUsage(cmd, err)
	}
	if err := s.Start(f.listen); err != nil {
		return err
	}
	fmt.Fprintf(out, "sandbox listening on %s\n", s.URL())
	if !f.exitAfterSent {
		fmt.Fprintf(out, "journeys, ledger: %s/_sandbox/\nsettings: JUMIO_CLIENT_ID=%s JUMIO_CLIENT_SECRET=... JUMIO_{TOKEN,RETRIEVAL,ACCOUNT,API,STATUS}_URL=%[1]s\n", s.URL(), f.clientID)
	}
	runErr := f.send(cmd.Context(), out, s)
	if !f.exitAfterSent {
		<-cmd.Context().Done()
		runErr = nil // printed when it happened; the sandbox went on serving
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(cmd.Context()), f.stopWithin)
	defer cancel()
	return errors.Join(runErr, s.Close(ctx))
}

// send posts the journeys' callbacks, if there is somewhere to post to.
func (f sandboxFlags) send(ctx context.Context, out io.Writer, s *sandbox.Sandbox) error {
	if f.CallbackURL == "" || f.journeys == 0 {
		return nil
	}
	err := s.SendNew(ctx, f.journeys, f.kinds, f.rate)
	if ctx.Err() != nil {
		return err
	}
	totals := s.Ledger().Totals
	fmt.Fprintf(out, "sent %d journeys: %d callbacks, %d acknowledged, %d given up\n",
		totals.Journeys, totals.CallbacksSent, totals.CallbacksAcknowledged, totals.CallbacksGivenUp)
	if err != nil && !f.exitAfterSent {
		fmt.Fprintln(out, err)
	}
	return err
}

// newSandbox makes the sandbox; every error is a wrong command line.
func (f sandboxFlags) newSandbox(stderr io.Writer) (*sandbox.Sandbox, error) {
	log, err := app.NewLogger(stderr, f.logLevel, "console")
	if err != nil {
		return nil, err
	}
	for _, kind := range f.kinds {
		if _, err := journey.Find(kind); err != nil {
			return nil, fmt.Errorf("%w; --list-kinds lists them", err)
		}
	}
	switch {
	case f.journeys < 0:
		return nil, fmt.Errorf("--journeys %d is negative", f.journeys)
	case f.exitAfterSent && f.CallbackURL == "":
		return nil, errors.New("--exit-after-sent needs --callback-url")
	}
	f.Clients = append([]sandbox.Client{{ID: f.clientID, Secret: f.clientSecret}}, f.Clients...)
	f.Logger = log
	return sandbox.New(f.Config)
}

// faultsInto reads faults into a list.
func faultsInto(list *[]sandbox.Fault) func(string) error {
	return func(text string) error {
		f, err := sandbox.ParseFault(text)
		*list = append(*list, f)
		return err
	}
}

func (f *sandboxFlags) addClient(text string) error {
	id, rest, found := strings.Cut(text, ":")
	secret, dataCenter, _ := strings.Cut(rest, ":")
	if !found {
		return errors.New("want ID:SECRET or ID:SECRET:DATACENTER")
	}
	f.Clients = append(f.Clients, sandbox.Client{ID: id, Secret: secret, DataCenter: dataCenter})
	return nil
}

func (f *sandboxFlags) addHeader(text string) error {
	name, value, found := strings.Cut(text, ":")
	if name = strings.TrimSpace(name); !found || name == "" {
		return errors.New("want 'Name: value'")
	}
	if f.CallbackHeader == nil {
		f.CallbackHeader = http.Header{}
	}
	f.CallbackHeader.Add(name, strings.TrimSpace(value))
	return nil
}

func (f *sandboxFlags) addCAs(file string) error {
	pem, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if f.CallbackCAs == nil {
		if f.CallbackCAs, err = x509.SystemCertPool(); err != nil {
			return err
		}
	}
	if !f.CallbackCAs.AppendCertsFromPEM(pem) {
		return errors.New("the file holds no PEM certificate")
	}
	return nil
}

// setRate reads a rate such as 2/s or 30/m; 0 has no limit.
func (f *sandboxFlags) setRate(text string) error {
	number, unit, _ := strings.Cut(text, "/")
	divisor, known := map[string]float64{"": 1, "s": 1, "m": 60, "h": 3600}[unit]
	n, err := strconv.ParseFloat(number, 64)
	if err != nil || !known || !(n >= 0) {
		return errors.New("want a number per second, minute or hour, such as 2/s or 30/m")
	}
	f.rate = n / divisor
	return nil
}
