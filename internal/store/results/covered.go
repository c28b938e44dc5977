package results

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5"

	"callbackd/internal/callback"
	"callbackd/internal/tombstone"
)

// Covered is a subject that an order covers.
type Covered struct {
	tombstone.Subject
	// DataCenter and AccountID are for the deletion at Jumio; empty if unknown.
	DataCenter, AccountID string
}

// coverage is what an order covers. Accounts and references of a workflow execution that
// are nobody else's are in it, too, although they may not be barred.
type coverage struct {
	executions []claimed
	accounts   []string
	references []string // without our signature
}

// claimed is a workflow execution, with whose it is: by Jumio's details, or else by whoever
// has started it, or else by callbacks, which anybody can send.
type claimed struct {
	ID         string
	AccountID  string
	Reference  string // without our signature
	DataCenter string
	// confirmed reports whether it is not by callbacks alone.
	accountConfirmed, referenceConfirmed bool
}

// referenceForms returns a user reference without our signature, and then its other forms.
func referenceForms(key, reference string) []string {
	forms := []string{callback.UnsignedReference(key, reference), reference}
	if signed, err := callback.SignUserReference(key, forms[0]); err == nil {
		forms = append(forms, signed)
	}
	return slices.Compact(forms)
}

// The workflow executions that may be of accounts, or of user references.
const (
	ofAccounts = `
		SELECT workflow_execution_id FROM callbackd.workflow_executions WHERE account_id = ANY ($1)
		UNION SELECT workflow_execution_id FROM callbackd.mentions WHERE subject = ANY ($1)`
	ofReferences = `
		SELECT workflow_execution_id FROM callbackd.workflow_executions WHERE user_reference = ANY ($1)
		UNION SELECT workflow_execution_id FROM callbackd.workflow_executions WHERE user_reference_unsigned = ANY ($1)
		UNION SELECT workflow_execution_id FROM callbackd.mentions WHERE subject = ANY ($1)`
)

// claimed returns workflow executions that are not erased, with whose they are.
func (tx *Tx) claimed(ctx context.Context, which string, subjects []string, referenceKey string) ([]claimed, error) {
	rows, err := tx.Query(ctx, `
		SELECT w.workflow_execution_id, coalesce(w.data_center, x.data_center, ''), w.details_retrieved_at IS NOT NULL,
			coalesce(w.account_id, ''), coalesce(w.user_reference, ''), coalesce(x.account_id, ''), coalesce(x.user_reference, '')
		FROM callbackd.workflow_executions AS w
		LEFT JOIN callbackd.expectations AS x ON x.workflow_execution_id = w.workflow_execution_id AND x.expected_at IS NOT NULL
		WHERE w.workflow_execution_id = ANY (ARRAY(`+which+`)) AND w.erased_at IS NULL
		ORDER BY w.workflow_execution_id`, subjects)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (c claimed, err error) {
		var byDetails bool
		var account, reference string // expected
		if err := row.Scan(&c.ID, &c.DataCenter, &byDetails, &c.AccountID, &c.Reference, &account, &reference); err != nil {
			return c, err
		}
		if !byDetails && account != "" {
			c.AccountID = account
		}
		if !byDetails && reference != "" {
			c.Reference = reference
		}
		c.accountConfirmed, c.referenceConfirmed = byDetails || account != "", byDetails || reference != ""
		c.Reference = callback.UnsignedReference(referenceKey, c.Reference)
		return c, nil
	})
}

// covered returns what a subject covers.
func (tx *Tx) covered(ctx context.Context, kind tombstone.Kind, subject, referenceKey string) (c coverage, err error) {
	switch kind {
	case tombstone.WorkflowExecution:
		c.executions, err = tx.claimed(ctx, `SELECT unnest($1::text[])`, []string{subject}, referenceKey)
		if len(c.executions) == 0 {
			c.executions = []claimed{{ID: subject}} // known by callbacks alone
		}
	case tombstone.Account:
		c.accounts = []string{subject}
		c.executions, err = tx.claimed(ctx, ofAccounts, c.accounts, referenceKey)
		c.executions = slices.DeleteFunc(c.executions, func(e claimed) bool { return e.AccountID != subject })
	default:
		err = tx.coveredByReference(ctx, referenceForms(referenceKey, subject), referenceKey, &c)
	}
	if err != nil {
		return coverage{}, err
	}
	return c, tx.addExclusive(ctx, &c, referenceKey)
}

// coveredByReference adds a user reference's accounts, with their workflow executions, and
// workflow executions without an account. A forged callback must not drag another person's
// account in: one that is confirmed with other references, and not with this one, is not
// its account.
func (tx *Tx) coveredByReference(ctx context.Context, forms []string, referenceKey string, c *coverage) error {
	c.references = forms[:1]
	naming, err := tx.claimed(ctx, ofReferences, forms, referenceKey)
	if err != nil {
		return err
	}
	var candidates []string
	for _, e := range naming {
		switch {
		case e.Reference != forms[0]:
		case e.AccountID == "":
			c.executions = append(c.executions, e)
		case !slices.Contains(candidates, e.AccountID):
			candidates = append(candidates, e.AccountID)
		}
	}
	of, err := tx.claimed(ctx, ofAccounts, candidates, referenceKey)
	if err != nil {
		return err
	}
	ours, others := map[string]bool{}, map[string]bool{}
	for _, e := range of {
		if e.referenceConfirmed && e.Reference != "" {
			ours[e.AccountID] = ours[e.AccountID] || e.Reference == forms[0]
			others[e.AccountID] = others[e.AccountID] || e.Reference != forms[0]
		}
	}
	for _, account := range candidates {
		if ours[account] || !others[account] {
			c.accounts = append(c.accounts, account)
		}
	}
	for _, e := range of {
		if slices.Contains(c.accounts, e.AccountID) {
			c.executions = append(c.executions, e)
		}
	}
	return nil
}

// addExclusive adds the accounts and references of the covered workflow executions that no
// other one has.
func (tx *Tx) addExclusive(ctx context.Context, c *coverage, referenceKey string) error {
	covered := map[string]bool{}
	accounts, references := map[string]bool{}, map[string]bool{}
	for _, e := range c.executions {
		covered[e.ID] = true
		if e.AccountID != "" && !slices.Contains(c.accounts, e.AccountID) {
			accounts[e.AccountID] = true
		}
		if e.Reference != "" && !slices.Contains(c.references, e.Reference) {
			references[e.Reference] = true
		}
	}
	var ids, forms []string
	for account := range accounts {
		ids = append(ids, account)
	}
	for reference := range references {
		forms = append(forms, referenceForms(referenceKey, reference)...)
	}
	others, err := tx.claimed(ctx, ofAccounts, ids, referenceKey)
	if err != nil {
		return err
	}
	more, err := tx.claimed(ctx, ofReferences, forms, referenceKey)
	if err != nil {
		return err
	}
	for _, e := range append(others, more...) {
		if !covered[e.ID] {
			delete(accounts, e.AccountID)
			delete(references, e.Reference)
		}
	}
	for account := range accounts {
		c.accounts = append(c.accounts, account)
	}
	for reference := range references {
		c.references = append(c.references, reference)
	}
	return nil
}

// subjects returns all of it.
func (c *coverage) subjects() (list []Covered) {
	dataCenters := map[string]string{}
	for _, e := range c.executions {
		list = append(list, Covered{tombstone.Subject{Kind: tombstone.WorkflowExecution, ID: e.ID}, e.DataCenter, e.AccountID})
		if e.DataCenter != "" {
			dataCenters[e.AccountID] = e.DataCenter
		}
	}
	for _, id := range c.accounts {
		list = append(list, Covered{tombstone.Subject{Kind: tombstone.Account, ID: id}, dataCenters[id], id})
	}
	for _, reference := range c.references {
		list = append(list, Covered{Subject: tombstone.Subject{Kind: tombstone.UserReference, ID: reference}})
	}
	return list
}
