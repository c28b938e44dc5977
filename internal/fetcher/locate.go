package fetcher

import (
	"context"
	"iter"
	"slices"

	"callbackd/internal/jumio"
	"callbackd/internal/store/results"
)

// mostAddresses bounds the addresses that one attempt tries.
const mostAddresses = 8

// locate makes a request at the workflow execution's address. Callbacks are only hints,
// so if Jumio does not know it there, locate tries the other known addresses. The error
// is the first one, unless a later one does not mean that the address is wrong.
func (a *attempt) locate(ctx context.Context, request func(jumio.Workflow) error) error {
	if a.at.ID != "" {
		return request(a.at)
	}
	var first error
	rejected := make(map[string]bool) // by data center
	for w := range a.addresses(ctx) {
		if rejected[w.DataCenter] {
			continue
		}
		err := request(w)
		if err == nil {
			a.at = w
			return nil
		}
		switch failed(err).code {
		case jumio.CodeNotFound, jumio.CodeDetailsMismatch, jumio.CodeNoDataCenter, jumio.CodeInvalidID:
			// The address is wrong.
		case jumio.CodeUnauthorized, jumio.CodeForbidden, jumio.TokenCode(jumio.CodeUnauthorized), jumio.TokenCode(jumio.CodeForbidden):
			rejected[w.DataCenter] = true // the credentials
		default:
			return err
		}
		if first == nil {
			first = err
		}
	}
	return first
}

// addresses yields each address of the workflow execution once: the one in its row, the
// ones in callbacks, and the short form, which needs no account.
func (a *attempt) addresses(ctx context.Context) iter.Seq[jumio.Workflow] {
	return func(yield func(jumio.Workflow) bool) {
		believed := a.named(a.claimed())
		if !yield(believed) {
			return
		}
		// If the database does not answer, the one above must do.
		said, more, _ := a.results.Addresses(ctx, a.lease.WorkflowExecutionID, mostAddresses)
		for _, w := range a.others(believed, said, more) {
			if !yield(w) {
				return
			}
		}
	}
}

// others returns the addresses to try after the believed one. However many addresses
// callbacks name, it leaves room for the short form in each data center that they name,
// or, if they name none or more may exist, in each data center with credentials.
func (a *attempt) others(believed jumio.Workflow, said []results.Address, more bool) []jumio.Workflow {
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
		for _, dataCenter := range a.jumio.KnownDataCenters() {
			shortForms = append(shortForms, jumio.Workflow{DataCenter: dataCenter, ID: believed.ID})
		}
	}
	list, shortForms = unique(list), unique(shortForms)
	room := max(1, mostAddresses-len(shortForms))
	list = append(list[:min(len(list), room)], shortForms...)
	return unique(list)[1:]
}

// unique removes repeats and keeps the order.
func unique(list []jumio.Workflow) []jumio.Workflow {
	seen := make(map[jumio.Workflow]bool, len(list))
	return slices.DeleteFunc(list, func(w jumio.Workflow) bool {
		repeat := seen[w]
		seen[w] = true
		return repeat
	})
}

// claimed returns the address in the workflow execution's row; an operator's account
// replaces the one there.
func (a *attempt) claimed() results.Address {
	address := results.Address{AccountID: a.claim.AccountID, WorkflowHref: a.claim.WorkflowHref, AccountHref: a.claim.AccountHref}
	if a.args.AccountID != "" {
		address.AccountID = a.args.AccountID
	}
	return address
}

// named reads the ids and the data center from an address, ignoring hrefs that are not
// trusted. A data center that answered before, or in which the verification was started,
// takes precedence.
func (a *attempt) named(address results.Address) jumio.Workflow {
	return a.jumio.Address(a.lease.WorkflowExecutionID, a.claim.DataCenter, address.AccountID, address.WorkflowHref, address.AccountHref)
}
