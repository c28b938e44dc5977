package jumio

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"time"

	"go.opentelemetry.io/otel/trace"
)

// Config is a Client's settings.
type Config struct {
	// Credentials are for Jumio's data centers without their own; may be empty. Uploads,
	// finalizations and health need none at all.
	Credentials Credentials
	// DataCenter holds the credentials of single data centers by label, such as
	// "amer-1". A label that is not one of Jumio's becomes trusted.
	DataCenter map[string]Credentials
	// Basic sends the credentials themselves instead of a bearer token.
	Basic bool
	// UserAgent is "YourCompany YourApp/v1.0"; Jumio rejects requests without it.
	UserAgent string
	// The URLs are the scheme and host (and port) of a private or test endpoint for
	// every data center. Nil means the data center's own, such as
	// https://auth.<label>.jumio.ai for tokens, and with retrieval, account, api or
	// status in place of auth for the others.
	TokenURL, RetrievalURL, AccountURL, APIURL, StatusURL *url.URL
	// Budget says when a request may be sent.
	Budget Budget
	// MaxImageBytes is the size limit of an image.
	MaxImageBytes int64
	// ProgressTimeout ends a request that makes no progress for that long.
	ProgressTimeout time.Duration
	// Tracer gets a span for each request; nil for none. Jumio learns nothing of it.
	Tracer trace.Tracer
}

// maxImageLimit is the largest value that Postgres can store.
const maxImageLimit = 1 << 30

var userAgentPattern = regexp.MustCompile(`^[!-~][ -~]*$`)

// check reports everything that is wrong, without any secret.
func (cfg Config) check() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }

	if err := cfg.Credentials.check(); err != nil && cfg.Credentials != (Credentials{}) {
		bad("default credentials: %w", err)
	}
	for label, credentials := range cfg.DataCenter {
		if !validLabel(label) {
			bad("data center %q is not a label such as amer-1", label)
		}
		if err := credentials.check(); err != nil {
			bad("credentials of %s: %w", label, err)
		}
	}
	if !userAgentPattern.MatchString(cfg.UserAgent) {
		bad("user agent %q is empty or not printable ASCII", cfg.UserAgent)
	}
	for _, endpoint := range []struct {
		name string
		url  *url.URL
	}{{"token", cfg.TokenURL}, {"retrieval", cfg.RetrievalURL}, {"account", cfg.AccountURL}, {"API", cfg.APIURL}, {"status", cfg.StatusURL}} {
		if err := checkEndpoint(endpoint.url); err != nil {
			bad("%s URL: %w", endpoint.name, err)
		}
	}
	if cfg.Budget == nil {
		bad("no budget of requests")
	}
	if cfg.MaxImageBytes < 1 || cfg.MaxImageBytes > maxImageLimit {
		bad("largest image: %d is not between 1 and %d bytes", cfg.MaxImageBytes, maxImageLimit)
	}
	if cfg.ProgressTimeout <= 0 {
		bad("progress timeout: %v is not above 0", cfg.ProgressTimeout)
	}
	return errors.Join(errs...)
}

func checkEndpoint(u *url.URL) error {
	if u == nil {
		return nil
	}
	bare := url.URL{Scheme: u.Scheme, Host: u.Host}
	if u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || strings.TrimSuffix(u.String(), "/") != bare.String() {
		return errors.New("want the scheme http or https, a host and a port only")
	}
	return nil
}

// origin gives a configured endpoint's scheme and host, or "".
func origin(u *url.URL) string {
	if u == nil {
		return ""
	}
	return u.Scheme + "://" + strings.ToLower(u.Host)
}

// endpointOrigin is where requests to a service of Jumio's go: the configured endpoint, or
// the service's host in the data center.
func endpointOrigin(configured *url.URL, service, dataCenter string) string {
	if configured != nil {
		return origin(configured)
	}
	return "https://" + service + "." + dataCenter + ".jumio.ai"
}

// target is where one data center's requests go, and with which credentials.
type target struct {
	// dataCenter is "" for a configured endpoint whose data center is unknown.
	dataCenter      string
	tokenOrigin     string
	retrievalOrigin string
	credentials     Credentials
}

// target finds the endpoints and the credentials of a data center.
func (cfg *Config) target(dataCenter string) (target, error) {
	credentials, own := cfg.DataCenter[dataCenter]
	if !own {
		credentials = cfg.Credentials
	}
	switch {
	case dataCenter != "" && !cfg.trusts(dataCenter):
		return target{}, errors.New("neither one of Jumio's data centers nor one with credentials of its own")
	case dataCenter == "" && credentials == (Credentials{}):
		if len(cfg.DataCenter) != 1 {
			return target{}, errors.New("the data center is unknown, and there are credentials for several")
		}
		for label, only := range cfg.DataCenter {
			dataCenter, credentials = label, only
		}
	case credentials == (Credentials{}):
		return target{}, fmt.Errorf("there are no credentials for data center %s", dataCenter)
	}
	needed := cfg.RetrievalURL == nil || (cfg.TokenURL == nil && !cfg.Basic)
	if needed && dataCenter == "" {
		return target{}, errors.New("the data center is unknown, and no endpoint is configured")
	}
	return target{
		dataCenter:      dataCenter,
		tokenOrigin:     endpointOrigin(cfg.TokenURL, "auth", dataCenter),
		retrievalOrigin: endpointOrigin(cfg.RetrievalURL, "retrieval", dataCenter),
		credentials:     credentials,
	}, nil
}
