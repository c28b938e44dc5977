package jumio

import (
	"errors"
	"regexp"
	"strings"

	"callbackd/internal/callback"
)

// Workflow names a workflow execution.
type Workflow struct {
	// DataCenter is the label in the callback's href, such as "amer-1", or "" if
	// unknown.
	DataCenter string
	// AccountID is "" if unknown; then the URL's short form is used.
	AccountID string
	// ID is the workflow execution's id.
	ID string
}

// Part names one image of a credential (guide, "Get Images").
type Part struct {
	AccountID    string
	CredentialID string
	// Category is the credential's (ID, SELFIE, FACEMAP, …), "" if unknown.
	Category   string
	Classifier string
}

// IsFacemap tells whether the part is a facemap, which may be binary data other than
// JPEG and PNG.
func (p Part) IsFacemap() bool {
	return p.Classifier == facemap || p.Category == facemap
}

const facemap = "FACEMAP"

// A request's URL is built from valid ids and labels, so nothing needs escaping.
const (
	labelExpr = `[a-z0-9]+(?:-[a-z0-9]+)*`
	// labelLimit is the longest label in DNS (RFC 1035, section 2.3.4).
	labelLimit = 63
)

var (
	labelPattern = regexp.MustCompile(`^` + labelExpr + `$`)

	jumioOrigin  = regexp.MustCompile(`^https://retrieval\.(` + labelExpr + `)\.jumio\.ai(/.*)$`)
	apiOrigin    = regexp.MustCompile(`^https://api\.(` + labelExpr + `)\.jumio\.ai$`)
	workflowPath = regexp.MustCompile(`^/api/v1/(?:accounts/([^/]+)/)?workflow-executions/([^/]+)$`)
	accountPath  = regexp.MustCompile(`^/api/v1/accounts/([^/]+)$`)
	partPath     = regexp.MustCompile(`^/api/v1/accounts/([^/]+)/credentials/([^/]+)/parts/([^/]+)$`)
)

// ErrForeignHref rejects an href that leads neither to the configured endpoint nor to
// a trusted data center, or is not in the canonical form. The text holds nothing of
// the href.
var ErrForeignHref = errors.New("not the href of a known retrieval endpoint")

func validLabel(s string) bool { return len(s) <= labelLimit && labelPattern.MatchString(s) }

// matchIDs is FindStringSubmatch for a path whose submatches are ids or empty.
func matchIDs(pattern *regexp.Regexp, path string) []string {
	m := pattern.FindStringSubmatch(path)
	for i, id := range m {
		if i > 0 && id != "" && !callback.ValidID(id) {
			return nil
		}
	}
	return m
}

// ParseWorkflowHref reads a workflow execution's href, with or without the account.
// The data center of an href to the configured endpoint is "". The error is
// ErrForeignHref.
func (c *Client) ParseWorkflowHref(href string) (Workflow, error) {
	dataCenter, path, err := c.splitHref(href)
	if err != nil {
		return Workflow{}, err
	}
	m := matchIDs(workflowPath, path)
	if m == nil {
		return Workflow{}, ErrForeignHref
	}
	return Workflow{DataCenter: dataCenter, AccountID: m[1], ID: m[2]}, nil
}

// ParseAccountHref reads an account's href. The error is ErrForeignHref.
func (c *Client) ParseAccountHref(href string) (dataCenter, accountID string, err error) {
	dataCenter, path, err := c.splitHref(href)
	if err != nil {
		return "", "", err
	}
	m := matchIDs(accountPath, path)
	if m == nil {
		return "", "", ErrForeignHref
	}
	return dataCenter, m[1], nil
}

// parsePartHref reads the ids in a part's href. It ignores the data center: in the
// guide's own example it differs from the callback's.
func (c *Client) parsePartHref(href string) (Part, error) {
	_, path, err := c.splitHref(href)
	if err != nil {
		return Part{}, err
	}
	m := matchIDs(partPath, path)
	if m == nil {
		return Part{}, ErrForeignHref
	}
	return Part{AccountID: m[1], CredentialID: m[2], Classifier: m[3]}, nil
}

// splitHref separates a trusted origin from the path. It compares text and does not
// parse a URL: whatever is not exactly in the expected form (user information, other
// ports, upper-case hosts, escapes, queries, …) is rejected, however some parser
// might read it.
func (c *Client) splitHref(href string) (dataCenter, path string, err error) {
	if path, ok := strings.CutPrefix(href, c.retrieval); ok && c.retrieval != "" {
		return "", path, nil
	}
	m := jumioOrigin.FindStringSubmatch(href)
	if m == nil || !c.cfg.trusts(m[1]) {
		return "", "", ErrForeignHref
	}
	return m[1], m[2], nil
}

// Address returns where a workflow execution is: in the data center and account that are
// given, or where they are empty, in those that the hrefs name. Hrefs that are not trusted
// are ignored.
func (c *Client) Address(id, dataCenter, accountID, workflowHref, accountHref string) Workflow {
	w := Workflow{ID: id, AccountID: accountID, DataCenter: dataCenter}
	fill := func(dataCenter, accountID string) {
		if w.DataCenter == "" {
			w.DataCenter = dataCenter
		}
		if w.AccountID == "" {
			w.AccountID = accountID
		}
	}
	if href, err := c.ParseWorkflowHref(workflowHref); err == nil {
		fill(href.DataCenter, href.AccountID)
	}
	if dataCenter, accountID, err := c.ParseAccountHref(accountHref); err == nil {
		fill(dataCenter, accountID)
	}
	return w
}
