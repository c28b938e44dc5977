package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"callbackd/internal/callback"
	"callbackd/internal/config"
	"callbackd/internal/jumio"
	"callbackd/internal/store"
	"callbackd/internal/store/results"
)

// starts is where it is stored that a verification has been started.
type starts interface {
	// Ready returns an error if Expect would fail.
	Ready(ctx context.Context) error
	Expect(ctx context.Context, e results.Expectation) error
}

// storedStarts implements starts.
type storedStarts struct {
	*results.Store
	db *store.DB
}

// Ready looks at the schema and at the rights, and whether the database takes writes.
func (s storedStarts) Ready(ctx context.Context) error {
	if err := s.db.CheckSchema(ctx); err != nil {
		return err
	}
	return s.db.CheckWorker(ctx)
}

// expectTimeout is how long storing an expectation may take once Jumio has answered.
const expectTimeout = 15 * time.Second

const createHelp = `Starts a verification: creates an account at Jumio with its first workflow execution, or
with --account-id starts a further one in that account. Prints Jumio's answer as it came;
it holds tokens, so keep it from others. What is started is expected: jumio.verifications
has a row for it before anything is printed.

The flags are the parameters of Jumio's guide ("Account Creation", "Request Body"). Its
limits are checked first. --body takes the whole JSON instead; parameters that the guide
does not know are passed on. CALLBACKD_PUBLIC_CALLBACK_URL is filled in as callbackUrl
where there is none, and with CALLBACKD_USER_REFERENCE_KEY the userReference is signed.

Exit codes besides 0: 1, nothing was started; 2, wrong usage or a limit of the guide; 3,
it is not known whether Jumio has started it (a time-out, a broken connection, a server
error), so look in Jumio's portal before you start it again, because nothing is repeated;
4, it is started and the answer is printed, but it could not be stored that its callback
is expected, or the answer lacks what --web or --sdk asks for.

Needs DATABASE_URL with a worker's role, JUMIO_CLIENT_ID, JUMIO_CLIENT_SECRET and
JUMIO_USER_AGENT.`

func newCreateCommand(p *process) *cobra.Command {
	f := &createFlags{}
	create := &cobra.Command{
		Use:   "create",
		Short: "Starts a verification, and expects its callback",
		Long:  createHelp,
		Example: `  callbackd verification create --data-center emea-1 --key 3 --customer-internal-reference order-1 \
    --user-reference customer-4711 --credential ID:AUT,DEU:PASSPORT,ID_CARD --credential FACEMAP::JUMIO_STANDARD --web
  callbackd verification create --data-center emea-1 --body request.json > answer.json`,
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := f.prepare(c, p)
			if err != nil {
				return err
			}
			return withDatabase(c, p, func(db *store.DB) error {
				return withSharedBudget(s.cfg, db, func(client *jumio.Client) error {
					return s.run(c.Context(), p, client, storedStarts{results.New(db), db})
				})
			})
		},
	}
	f.add(create)
	return create
}

// start is a creation or update that may be sent.
type start struct {
	cfg        *config.Config
	dataCenter string
	accountID  string // of an update
	initiation jumio.Initiation
	web, sdk   bool // what to print instead of the answer
}

// prepare reads flags, body and settings. What is wrong with the request is one error of
// a line each, and goes before what is wrong with the settings.
func (f *createFlags) prepare(c *cobra.Command, p *process) (*start, error) {
	s := &start{accountID: f.accountID, web: f.web, sdk: f.sdk}
	var err error
	if s.initiation, err = f.read(c, p); err != nil {
		return nil, err
	}
	var settingsErr error
	s.cfg, settingsErr = config.Jumio(p.environ, true, "DATABASE_URL", "CALLBACKD_USER_REFERENCE_KEY", "CALLBACKD_PUBLIC_CALLBACK_URL", "CALLBACKD_RETRIEVAL_RPS")
	problems := s.fillIn(f.dataCenter, p.environ)
	problems = append(problems, s.initiation.Problems()...)
	if c.Flags().Changed("account-id") && !callback.ValidID(f.accountID) {
		problems = append(problems, fmt.Sprintf("--account-id: %q is not an account id", f.accountID))
	}
	if len(problems) > 0 {
		return nil, wrongLines(c, problems)
	}
	return s, settingsErr
}

// fillIn completes what is asked for from the environment, where that is right. It returns
// what is wrong then.
func (s *start) fillIn(dataCenter string, environ []string) (problems []string) {
	own, err := config.Lookup(environ, "JUMIO_DATA_CENTER")
	switch s.dataCenter = cmp.Or(dataCenter, own); {
	case s.dataCenter == "" && err == nil:
		problems = append(problems, "missing data center, want --data-center or JUMIO_DATA_CENTER")
	case dataCenter != "" && !slices.Contains(jumio.DataCenters(), dataCenter):
		problems = append(problems, fmt.Sprintf("--data-center: %q is none of %s", dataCenter, strings.Join(jumio.DataCenters(), ", ")))
	}
	if url, _ := config.Lookup(environ, "CALLBACKD_PUBLIC_CALLBACK_URL"); url != "" && s.initiation[jumio.ParamCallbackURL] == nil {
		s.initiation[jumio.ParamCallbackURL] = url
	}
	key, _ := config.Lookup(environ, "CALLBACKD_USER_REFERENCE_KEY")
	if key == "" {
		return problems
	}
	switch reference := s.initiation.UserReference(); {
	case reference != "":
		signed, err := callback.SignUserReference(key, callback.UnsignedReference(key, reference))
		if err != nil {
			delete(s.initiation, jumio.ParamUserReference)
			return append(problems, err.Error())
		}
		s.initiation[jumio.ParamUserReference] = signed
	case s.initiation[jumio.ParamUserReference] == nil && s.accountID == "":
		problems = append(problems, "userReference is missing; with CALLBACKD_USER_REFERENCE_KEY, callbacks without a signed one are refused")
	}
	return problems
}

// run starts the verification and prints what is asked for.
func (s *start) run(ctx context.Context, p *process, client *jumio.Client, expected starts) error {
	body, err := s.initiation.Encode()
	if err != nil {
		return fmt.Errorf("write the request: %w", err)
	}
	if err := expected.Ready(ctx); err != nil {
		return err
	}
	created, err := s.send(ctx, client, body)
	if e, ok := errors.AsType[*jumio.Error](err); ok && e.Verdict == jumio.OutcomeUnknown {
		if created != nil && len(created.Raw) > 0 {
			_ = printAnswer(p, created.Raw.Reveal()) // what is known
		}
		return &exitError{exitUnknown, fmt.Errorf("it is not known whether Jumio has started the verification, look there before you start it again: %w", err)}
	}
	if err != nil {
		return err
	}
	unstored := s.expect(ctx, created, expected)
	if err := s.print(p, created); err != nil {
		return &exitError{exitIncomplete, errors.Join(err, unstored)}
	}
	if unstored != nil {
		return &exitError{exitIncomplete, unstored}
	}
	return nil
}

func (s *start) send(ctx context.Context, client *jumio.Client, body []byte) (*jumio.Creation, error) {
	if s.accountID != "" {
		return client.UpdateAccount(ctx, s.dataCenter, s.accountID, body)
	}
	return client.CreateAccount(ctx, s.dataCenter, body)
}

// expect stores what has been started, also after Ctrl-C.
func (s *start) expect(ctx context.Context, created *jumio.Creation, expected starts) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), expectTimeout)
	defer cancel()
	e := results.Expectation{
		WorkflowExecutionID: created.WorkflowExecutionID,
		AccountID:           cmp.Or(created.AccountID, s.accountID),
		DataCenter:          s.dataCenter,
		UserReference:       s.initiation.UserReference(),
		DefinitionKey:       s.initiation.DefinitionKey(),
		TokenLifetime:       s.initiation.TokenLifetime(),
	}
	if err := expected.Expect(ctx, e); err != nil {
		return fmt.Errorf("workflow execution %s of account %s is started in %s, but not expected, call jumio.expect for it: %w",
			e.WorkflowExecutionID, cmp.Or(e.AccountID, "(unknown)"), e.DataCenter, err)
	}
	return nil
}

// print writes the answer, or the part of it that is asked for. If the answer lacks it,
// the whole answer must do.
func (s *start) print(p *process, created *jumio.Creation) error {
	var part jumio.Secret
	var name string
	switch {
	case s.web:
		part, name = created.WebHref, "web.href"
	case s.sdk:
		part, name = created.SDKToken, "sdk.token"
	default:
		return printAnswer(p, created.Raw.Reveal())
	}
	if part == "" {
		return errors.Join(printAnswer(p, created.Raw.Reveal()), fmt.Errorf("workflow execution %s is started, but Jumio's answer has no %s", created.WorkflowExecutionID, name))
	}
	return printAnswer(p, []byte(part.Reveal()))
}
