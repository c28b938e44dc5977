package jumio

import (
	"errors"
	"regexp"
	"strings"

	"callbackd/internal/callback"
)

// Workflow names a workflow execution.
type Workflow struct {
	// DataCenter is the label in the callback's href, "amer-1" for example;
	// "" if it is not known.
	DataCenter string
	// AccountID is "" if it is not known; the short form of the address is
	// used then.
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

// IsFacemap tells whether the part is a facemap, which may be other binary data
// than JPEG and PNG.
func (p Part) IsFacemap() bool {
	return p.Classifier == facemap || p.Category == facemap
}

const facemap = "FACEMAP"

// Everything that a request's address is built from is a valid id or label, so
// nothing in it ever needs escaping.
const (
	labelExpr = `[a-z0-9]+(?:-[a-z0-9]+)*`
	// labelLimit is the longest label that DNS allows.
	labelLimit = 63
)

var (
	labelPattern = regexp.MustCompile(`^` + labelExpr + `$`)

	jumioOrigin  = regexp.MustCompile(`^https://retrieval\.(` + labelExpr + `)\.jumio\.ai(/.*)$`)
	workflowPath = regexp.MustCompile(`^/api/v1/(?:accounts/([^/]+)/)?workflow-executions/([^/]+)$`)
	accountPath  = regexp.MustCompile(`^/api/v1/accounts/([^/]+)$`)
	partPath     = regexp.MustCompile(`^/api/v1/accounts/([^/]+)/credentials/([^/]+)/parts/([^/]+)$`)
)

// ErrForeignHref is the reason why an href is refused: it points neither to the
// configured endpoint nor to a trusted data center's, or not in the canonical
// form. The text holds nothing of the href.
var ErrForeignHref = errors.New("not the href of a known retrieval endpoint")

func validLabel(s string) bool { return len(s) <= labelLimit && labelPattern.MatchString(s) }

// matchIDs is FindStringSubmatch for a path whose submatches are ids, or absent.
func matchIDs(pattern *regexp.Regexp, path string) []string {
	m := pattern.FindStringSubmatch(path)
	for i, id := range m {
		if i > 0 && id != "" && !callback.ValidID(id) {
			return nil
		}
	}
	return m
}

// ParseWorkflowHref reads a workflow execution's href, with or without the
// account. An href to the configured endpoint leads to an empty data center.
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

// ParseAccountHref reads an account's href.
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

// parsePartHref reads the ids of a part's href. Its data center is dropped: the
// guide's own example names another one there than the callback does.
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

// splitHref separates a trusted origin from the path. The text is compared and
// not parsed as a URL: what is not exactly in the expected form (user
// information, other ports, upper-case hosts, escapes, queries, …) is refused
// without a question of how some parser would read it.
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
