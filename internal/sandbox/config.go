package sandbox

import (
	"cmp"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"go.uber.org/zap"

	"callbackd/internal/sandbox/journey"
)

// Client is an API client of the tenant.
type Client struct {
	ID, Secret string
	// DataCenter is the only data center whose workflows the client may see;
	// empty: all.
	DataCenter string
}

// Config says how the sandbox behaves. The zero value is a well-behaved Jumio
// with one client, "sandbox" with the secret "sandbox", and no callback URL.
type Config struct {
	// Seed decides ids, people, documents, images and drawn faults.
	Seed uint64
	// Clients may fetch tokens, and use the API with Basic authentication.
	Clients []Client
	// TokenLifetime is at least 1 s; 60 minutes when zero (guide, "Access Token Timeout").
	TokenLifetime time.Duration
	// DataCenter is that of every workflow; drawn for each when empty.
	DataCenter string
	// OwnHrefs makes every href point at the sandbox instead of
	// https://retrieval.<data center>.jumio.ai. It needs Start, which learns
	// the sandbox's address.
	OwnHrefs bool
	// RequestsPerSecond is the limit above which retrievals get 429; unlimited
	// when zero. Jumio allows 15.
	RequestsPerSecond float64

	// AccountsPerSecond is the limit above which account creations and updates get
	// 429; unlimited when zero. Jumio allows 1.
	AccountsPerSecond float64
	// StatusDataCenter is whose health the Health Check answers; the worst of all
	// when empty.
	StatusDataCenter string

	// Speed is how many times faster than the clock the tokens and sessions of
	// created workflow executions expire, and Processing passes; 1 when zero.
	Speed float64
	// Processing passes between a finalization and its result.
	Processing time.Duration

	// CallbackURL is posted to, unless a journey brings its own.
	CallbackURL string
	// CallbackForm is how callback bodies are written; FormJSON when empty.
	CallbackForm Form
	// CallbackContentType replaces the form's own Content-Type.
	CallbackContentType string
	// CallbackTimeout bounds one delivery; 30 s when zero.
	CallbackTimeout time.Duration
	// CallbackCAs are whom the sandbox trusts when it posts to https; the system's
	// when nil.
	CallbackCAs *x509.CertPool
	// CallbackHeader is added to every callback.
	CallbackHeader http.Header
	// Repeat is how often a callback that was not answered with 200 is sent
	// again. What Jumio does is unknown; zero gives up at once.
	Repeat int
	// RepeatPause passes before each repeat; 1 s when zero.
	RepeatPause time.Duration
	// Intermediate is the share of journeys, 0 to 1, that report
	// ACQUISITION_STARTED and ACQUIRED before the final status.
	Intermediate float64
	// OverallDecision puts Jumio's overall decision into every workflow's details,
	// as later Jumio does; into those of a quarter of the workflows otherwise.
	OverallDecision bool
	// UserReference is every journey's; drawn when empty.
	UserReference string

	// Faults are those of every journey; those of the token, account and health
	// endpoints are the whole sandbox's.
	Faults []Fault
	// FaultRate is the share of journeys, 0 to 1, that draw one more fault from
	// FaultPool.
	FaultRate float64
	// FaultPool is DefaultFaultPool() when empty.
	FaultPool []Fault
	// Attempts is how many retrievals the client makes before it gives up, which
	// decides the expected end states; 10 when zero, as the guide allows.
	Attempts int

	// DetailsBytes pads the details to about this size, with the guide's list of
	// driving licence categories in the first extraction's data. Longer details,
	// and those without extraction data, stay as they are.
	DetailsBytes int
	// ImageBytes pads every image to this size; a larger one stays as it is.
	ImageBytes int
	// FastImages draws one picture per document and part instead of one per
	// person; the images still differ, by a comment in the file.
	FastImages bool
	// ImageCacheBytes bounds the images kept in memory; 64 MiB when zero.
	ImageCacheBytes int
	// MaxJourneys bounds the journeys remembered; the API forgets the
	// oldest. 20,000 when zero.
	MaxJourneys int

	// Now is the clock of tokens, callbacks and workflows; time.Now when nil.
	Now func() time.Time
	// AfterFunc calls f once d has passed on the clock, unless stop is called before;
	// time.AfterFunc when nil.
	AfterFunc func(d time.Duration, f func()) (stop func() bool)
	// Logger may be nil.
	Logger *zap.Logger
}

func (c Config) withDefaults() Config {
	if len(c.Clients) == 0 {
		c.Clients = []Client{{ID: "sandbox", Secret: "sandbox"}}
	}
	c.TokenLifetime = cmp.Or(c.TokenLifetime, time.Hour)
	c.CallbackForm = cmp.Or(c.CallbackForm, FormJSON)
	c.CallbackTimeout = cmp.Or(c.CallbackTimeout, 30*time.Second)
	c.RepeatPause = cmp.Or(c.RepeatPause, time.Second)
	c.Attempts = cmp.Or(c.Attempts, 10)
	c.Speed = cmp.Or(c.Speed, 1)
	c.ImageCacheBytes = cmp.Or(c.ImageCacheBytes, 64<<20)
	c.MaxJourneys = cmp.Or(c.MaxJourneys, 20_000)
	if len(c.FaultPool) == 0 {
		c.FaultPool = DefaultFaultPool()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.AfterFunc == nil {
		c.AfterFunc = func(d time.Duration, f func()) func() bool { return time.AfterFunc(d, f).Stop }
	}
	if c.Logger == nil {
		c.Logger = zap.NewNop()
	}
	return c
}

// validate names every wrong field at once.
func (c Config) validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	seen := map[string]bool{}
	for _, client := range c.Clients {
		check(client.ID != "" && client.Secret != "", "a client needs an id and a secret")
		check(!seen[client.ID], "client id %q is there twice", client.ID)
		seen[client.ID] = true
		check(knownDataCenter(client.DataCenter), "client %q: data center %q is none of %s", client.ID, client.DataCenter, join(journey.DataCenters))
	}
	check(knownDataCenter(c.DataCenter), "data center %q is none of %s", c.DataCenter, join(journey.DataCenters))
	check(c.TokenLifetime >= time.Second, "the token lifetime %s is shorter than 1s", c.TokenLifetime)
	check(slices.Contains(Forms, c.CallbackForm), "callback form %q is none of %s", c.CallbackForm, join(Forms))
	check(isShare(c.Intermediate), "the share of intermediate callbacks %g is not between 0 and 1", c.Intermediate)
	check(isShare(c.FaultRate), "the fault rate %g is not between 0 and 1", c.FaultRate)
	check(c.MaxJourneys > 0, "the number of journeys kept %d is not positive", c.MaxJourneys)
	check(c.RequestsPerSecond >= 0, "the request rate %g is negative", c.RequestsPerSecond)
	check(c.AccountsPerSecond >= 0, "the rate of account requests %g is negative", c.AccountsPerSecond)
	check(knownDataCenter(c.StatusDataCenter), "status data center %q is none of %s", c.StatusDataCenter, join(journey.DataCenters))
	check(c.Speed > 0, "the speed %g is not positive", c.Speed)
	check(c.Processing >= 0, "the processing time %s is negative", c.Processing)
	check(c.Repeat >= 0, "the number of repeats %d is negative", c.Repeat)
	check(c.Attempts > 0, "the number of attempts %d is not positive", c.Attempts)
	check(c.DetailsBytes >= 0, "the size of details %d is negative", c.DetailsBytes)
	check(c.ImageBytes >= 0, "the image size %d is negative", c.ImageBytes)
	errs = append(errs, checkCallbackURL(c.CallbackURL))
	for _, f := range slices.Concat(c.Faults, c.FaultPool) {
		errs = append(errs, f.validate())
	}
	for _, f := range c.FaultPool {
		check(!slices.Contains(common, f.Endpoint), "fault %s: %s requests belong to no journey, so none can draw it", f, f.Endpoint)
	}
	return errors.Join(errs...)
}

func isShare(f float64) bool { return f >= 0 && f <= 1 }

func knownDataCenter(name string) bool {
	return name == "" || slices.Contains(journey.DataCenters, name)
}
