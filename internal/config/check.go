package config

import (
	"net"
	"net/netip"
	"net/url"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

var (
	hostName   = regexp.MustCompile(`^(?i)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*\.?$`)
	headerName = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$") // RFC 9110 section 5.6.2, token
	// pathChars are RFC 3986's pchar without escapes and without *, which is a
	// wildcard to routers.
	pathChars = regexp.MustCompile(`^[A-Za-z0-9/._~!$&'()+,;=:@-]{2,240}$`)
	printable = regexp.MustCompile(`^[!-~]([ -~]*[!-~])?$`)
)

// ensure reports a variable as wrong unless ok.
func (p *problems) ensure(ok bool, name string) {
	if !ok {
		p.wrong(name)
	}
}

// check looks at each variable on its own.
func (c *Config) check(p *problems) {
	ensure := p.ensure
	if c.DatabaseURL != "" {
		// The error may repeat the password, so it is dropped.
		_, err := pgxpool.ParseConfig(c.DatabaseURL)
		ensure(err == nil && strings.TrimSpace(c.DatabaseURL) != "", "DATABASE_URL")
	}
	ensure(validAddress(c.Listen, true), "CALLBACKD_LISTEN")
	ensure(validAddress(c.AdminListen, true), "CALLBACKD_ADMIN_LISTEN")
	ensure(validCallbackPath(c.CallbackPath), "CALLBACKD_CALLBACK_PATH")
	ensure(headerName.MatchString(c.ClientIPHeader), "CALLBACKD_CLIENT_IP_HEADER")
	for _, name := range c.JumioIPs {
		if !slices.Contains([]string{"us", "eu", "sg"}, name) {
			p.wrong("CALLBACKD_JUMIO_IPS", name)
		}
	}
	for _, host := range c.JumioHosts {
		if _, err := netip.ParseAddr(host); err == nil || !validHost(host) || host == "none" {
			p.wrong("CALLBACKD_JUMIO_HOSTS", host)
		}
	}
	ensure(c.DNSServer == "" || validAddress(c.DNSServer, false), "CALLBACKD_DNS_SERVER")
	ensure(c.DNSRefresh >= time.Second, "CALLBACKD_DNS_REFRESH")
	ensure(c.DNSGrace >= 0, "CALLBACKD_DNS_GRACE")
	ensure(within(c.MaxBodyBytes, 1, 64<<20), "CALLBACKD_MAX_BODY_BYTES")
	ensure(c.StoreTimeout > 0, "CALLBACKD_STORE_TIMEOUT")
	ensure(filepath.Clean(c.SpoolDir) != "/", "CALLBACKD_SPOOL_DIR")
	ensure(c.SpoolMaxBytes >= 1, "CALLBACKD_SPOOL_MAX_BYTES")
	ensure(c.UserReferenceKey == "" || strings.TrimSpace(c.UserReferenceKey) != "", "CALLBACKD_USER_REFERENCE_KEY")
	ensure(c.RejectedPerHour >= 0, "CALLBACKD_REJECTED_PER_HOUR")
	ensure(within(c.Workers, 0, 1000), "CALLBACKD_WORKERS")
	ensure(within(len(c.RetrievalDelays), 1, 10), "CALLBACKD_RETRIEVAL_DELAYS")
	for _, delay := range c.RetrievalDelays {
		ensure(delay >= 0, "CALLBACKD_RETRIEVAL_DELAYS")
	}
	ensure(c.RetrievalRPS > 0 && c.RetrievalRPS <= 1e6, "CALLBACKD_RETRIEVAL_RPS") // false for NaN
	ensure(within(c.MaxImageBytes, 1, 256<<20), "CALLBACKD_MAX_IMAGE_BYTES")
	ensure(c.ShutdownTimeout > 0, "CALLBACKD_SHUTDOWN_TIMEOUT")
	ensure(slices.Contains([]string{"debug", "info", "warn", "error"}, c.LogLevel), "CALLBACKD_LOG_LEVEL")
	ensure(slices.Contains([]string{"json", "console"}, c.LogFormat), "CALLBACKD_LOG_FORMAT")
	ensure(c.ClientID == "" || validClientID(c.ClientID), clientID)
	ensure(c.ClientSecret == "" || printable.MatchString(c.ClientSecret), clientSecret)
	ensure(slices.Contains([]string{"oauth2", "basic"}, c.Auth), "JUMIO_AUTH")
	ensure(c.UserAgent == "" || printable.MatchString(c.UserAgent), "JUMIO_USER_AGENT")
	ensure(c.DataCenter == "" || slices.Contains(jumioDataCenters, c.DataCenter), "JUMIO_DATA_CENTER")
	ensure(c.PublicCallbackURL == "" || validPublicURL(c.PublicCallbackURL), "CALLBACKD_PUBLIC_CALLBACK_URL")
	ensure(c.SessionTimeout > 0, "CALLBACKD_SESSION_TIMEOUT")
	ensure(c.ReconcileGrace >= 0, "CALLBACKD_RECONCILE_GRACE")
	ensure(len(c.ReconcileDelays) <= 100, "CALLBACKD_RECONCILE_DELAYS")
	for _, delay := range c.ReconcileDelays {
		ensure(delay >= 0, "CALLBACKD_RECONCILE_DELAYS")
	}
	ensure(c.JumioHealthInterval == 0 || c.JumioHealthInterval >= time.Second, "CALLBACKD_JUMIO_HEALTH_INTERVAL")
	ensure(c.ErasureKey == "" || strings.TrimSpace(c.ErasureKey) != "", "CALLBACKD_ERASURE_KEY")
	ensure(c.ImageStoreAccessKey == "" || printable.MatchString(c.ImageStoreAccessKey), imageAccessKey)
	ensure(c.ImageStoreSecretKey == "" || printable.MatchString(c.ImageStoreSecretKey), imageSecretKey)
	ensure(c.ImageRecipients == "" || validRecipients(c.ImageRecipients), "CALLBACKD_IMAGE_RECIPIENTS")
	ensure(c.ImageIdentity == "" || validIdentity(c.ImageIdentity), "CALLBACKD_IMAGE_IDENTITY")
	c.checkRetention(p)
	c.checkTracing(p)
}

// jumioDataCenters are those of the guide ("Access Token URL").
var jumioDataCenters = []string{"amer-1", "emea-1", "apac-1"}

// checkComplete looks for what serve needs, and for variables that contradict each other.
func (c *Config) checkComplete(p *problems) {
	if c.DatabaseURL == "" {
		p.say("DATABASE_URL", missing("DATABASE_URL"))
	}
	if c.ProxyProtocol && len(c.TrustedProxies) == 0 {
		p.say("CALLBACKD_TRUSTED_PROXIES", "is empty while CALLBACKD_PROXY_PROTOCOL is true, want the addresses of the load balancers that send the PROXY header")
	}
	if !c.Receive && c.Workers == 0 {
		p.say("CALLBACKD_WORKERS", "is 0 while CALLBACKD_RECEIVE is false, want at least one of them on")
	}
	c.checkImageKeys(p)
	if c.Workers != 0 {
		const instead = ", or CALLBACKD_WORKERS=0"
		c.checkCredentials(p, instead)
		c.checkUserAgent(p, instead)
	}
}

// checkUserAgent looks for what every request to Jumio needs.
func (c *Config) checkUserAgent(p *problems, instead string) {
	if c.UserAgent == "" {
		p.say("JUMIO_USER_AGENT", missing("JUMIO_USER_AGENT")+instead)
	}
}

// checkCredentials wants complete pairs of credentials only, for all data centers or for
// at least one. A line about a missing half ends with instead.
func (c *Config) checkCredentials(p *problems, instead string) {
	need := func(value, name string) {
		if value == "" {
			p.say(name, missing(name)+instead)
		}
	}
	if len(c.DataCenters) == 0 || c.ClientID != "" || c.ClientSecret != "" {
		need(c.ClientID, clientID)
		need(c.ClientSecret, clientSecret)
	}
	for dc, credentials := range c.DataCenters {
		need(credentials.ClientID, clientID+"_"+environmentForm(dc))
		need(credentials.ClientSecret, clientSecret+"_"+environmentForm(dc))
	}
}

// readDataCenters collects the credentials of single data centers.
func (c *Config) readDataCenters(p *problems) {
	for name, value := range p.values {
		general := dataCenterVariable(name)
		if general == "" {
			continue
		}
		c.values[name] = value
		dc := hostForm(strings.TrimPrefix(name, general+"_"))
		credentials := c.DataCenters[dc]
		if general == clientID {
			credentials.ClientID = value
			p.ensure(validClientID(value), name)
		} else {
			credentials.ClientSecret = value
			p.ensure(printable.MatchString(value), name)
		}
		c.DataCenters[dc] = credentials
	}
}

func within[N int | int64](n, least, most N) bool { return least <= n && n <= most }

// validClientID rejects a colon, which ends the user name in Basic authentication (RFC 7617).
func validClientID(id string) bool {
	return printable.MatchString(id) && !strings.Contains(id, ":")
}

func validHost(host string) bool { return len(host) <= 253 && hostName.MatchString(host) }

// validAddress tells whether address is host:port. An address to listen on may have
// no host, and port 0.
func validAddress(address string, listen bool) bool {
	host, port, err := net.SplitHostPort(address)
	if err != nil || !validPort(port, false) {
		return false
	}
	if listen && host == "" {
		return true
	}
	_, err = netip.ParseAddr(host)
	return (err == nil || validHost(host)) && (listen || port != "0")
}

func validPort(port string, optional bool) bool {
	if port == "" {
		return optional
	}
	_, err := strconv.ParseUint(port, 10, 16)
	return err == nil
}

// publicURLLimit is Jumio's limit on a callback URL, in characters.
const publicURLLimit = 255

// validPublicURL tells whether Jumio can call a URL: later editions of its guide want
// https and forbid an IP address, a port and a fragment. Test set-ups may differ at
// hosts that are nobody's on the internet.
func validPublicURL(text string) bool {
	u, err := url.Parse(text)
	if err != nil || !printable.MatchString(text) || len(text) > publicURLLimit || strings.ContainsAny(text, " #") || u.User != nil || !validPort(u.Port(), true) {
		return false
	}
	host := u.Hostname()
	addr, err := netip.ParseAddr(host)
	isAddr := err == nil
	if isAddr && addr.IsLoopback() || validHost(host) && !strings.Contains(host, ".") {
		return u.Scheme == "https" || u.Scheme == "http"
	}
	return u.Scheme == "https" && u.Port() == "" && !strings.HasSuffix(u.Host, ":") && !isAddr && validHost(host)
}

// validCallbackPath tells whether p can be matched exactly. It rejects what a router
// or proxy would rewrite (escapes, doubled slashes, dot segments) and a trailing
// slash, so that there is only one spelling.
func validCallbackPath(p string) bool {
	return strings.HasPrefix(p, "/") && path.Clean(p) == p && pathChars.MatchString(p) && p != "/healthz" && p != "/readyz"
}
