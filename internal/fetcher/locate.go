package fetcher

import (
	"context"
	"errors"
	"iter"
	"slices"

	"callbackd/internal/jumio"
	"callbackd/internal/store"
)

// mostAddresses bounds the addresses at which a workflow execution is asked for in
// one attempt.
const mostAddresses = 8

// locate makes a request at the address of the workflow execution. Callbacks are
// hints, so where Jumio does not know it there, the others that are known are tried
// before that counts. The error is the first one's, unless a later one says that it
// may be there after all.
func (a *attempt) locate(ctx context.Context, request func(jumio.Workflow) error) error {
	if a.at.ID != "" {
		return request(a.at)
	}
	var first error
	refused := make(map[string]bool) // data centers
	for w := range a.addresses(ctx) {
		if refused[w.DataCenter] {
			continue
		}
		err := request(w)
		if err == nil {
			a.at = w
			return nil
		}
		switch codeOf(err) {
		case jumio.CodeNotFound, jumio.CodeDetailsMismatch, jumio.CodeNoDataCenter, jumio.CodeInvalidID:
			// The address is wrong.
		case jumio.CodeUnauthorized, jumio.CodeForbidden, jumio.TokenCode(jumio.CodeUnauthorized), jumio.TokenCode(jumio.CodeForbidden):
			refused[w.DataCenter] = true // it does not take the credentials
		default:
			return err
		}
		if first == nil {
			first = err
		}
	}
	return first
}

// codeOf is the code of an error of the client's, else empty.
func codeOf(err error) string {
	if e, ok := errors.AsType[*jumio.Error](err); ok {
		return e.Code
	}
	return ""
}

// addresses gives each address of the workflow execution once: what is believed of
// it, what any callback said of it, and the short form, which needs no account.
func (a *attempt) addresses(ctx context.Context) iter.Seq[jumio.Workflow] {
	return func(yield func(jumio.Workflow) bool) {
		believed := a.named(a.claimed())
		if !yield(believed) {
			return
		}
		// Without an answer of the database there is only the one above.
		said, more, _ := a.worker.store.Addresses(ctx, a.lease.WorkflowExecutionID)
		for _, w := range a.others(believed, said, more) {
			if !yield(w) {
				return
			}
		}
	}
}

// others are the addresses besides the one that is believed. However many callbacks
// name, there is room for the short form in each data center that they name, or, if
// they name none or there are more of them, in each for which there are credentials.
func (a *attempt) others(believed jumio.Workflow, said []store.Address, more bool) []jumio.Workflow {
	list := []jumio.Workflow{believed}
	for _, address := range said {
		list = append(list, a.named(address))
	}
	var shortForms []jumio.Workflow
	for _, w := range list {
		if w.DataCenter != "" {
			shortForms = append(shortForms, jumio.Workflow{DataCenter: w.DataCenter, ID: w.ID})
		}
	}
	if more || len(shortForms) == 0 {
		shortForms = nil
		for _, dataCenter := range a.worker.jumio.KnownDataCenters() {
			shortForms = append(shortForms, jumio.Workflow{DataCenter: dataCenter, ID: believed.ID})
		}
	}
	list, shortForms = unique(list), unique(shortForms)
	room := max(1, mostAddresses-len(shortForms))
	list = append(list[:min(len(list), room)], shortForms...)
	return unique(list)[1:]
}

// unique is the list without repeats, in its order.
func unique(list []jumio.Workflow) []jumio.Workflow {
	seen := make(map[jumio.Workflow]bool, len(list))
	return slices.DeleteFunc(list, func(w jumio.Workflow) bool {
		repeat := seen[w]
		seen[w] = true
		return repeat
	})
}

// claimed is what is believed of the workflow execution's address.
func (a *attempt) claimed() store.Address {
	address := store.Address{AccountID: a.claim.AccountID, WorkflowHref: a.claim.WorkflowHref, AccountHref: a.claim.AccountHref}
	if a.args.AccountID != "" {
		address.AccountID = a.args.AccountID
	}
	return address
}

// named reads an address. Of its hrefs, only what they name is used, and only if
// they are trusted; the data center that has answered before goes first.
func (a *attempt) named(address store.Address) jumio.Workflow {
	w := jumio.Workflow{ID: a.lease.WorkflowExecutionID, AccountID: address.AccountID, DataCenter: a.claim.DataCenter}
	fill := func(dataCenter, accountID string) {
		if w.DataCenter == "" {
			w.DataCenter = dataCenter
		}
		if w.AccountID == "" {
			w.AccountID = accountID
		}
	}
	if href, err := a.worker.jumio.ParseWorkflowHref(address.WorkflowHref); err == nil {
		fill(href.DataCenter, href.AccountID)
	}
	if dataCenter, accountID, err := a.worker.jumio.ParseAccountHref(address.AccountHref); err == nil {
		fill(dataCenter, accountID)
	}
	return w
}
