// Package web is the web journey of the Jumio stand-in: the page that web.href
// leads to, what it posts, and a host page that embeds it. It follows the guide's
// section "Web": events by postMessage, redirects, error codes.
//
// It keeps no journeys and decides nothing about them, it logs nothing, and its
// pages load nothing from elsewhere.
package web

import "errors"

var (
	// ErrUnknown is an authorization token that was never issued: errorCode 9200.
	ErrUnknown = errors.New("unknown authorization token")
	// ErrExpired is an authorization token whose lifetime ended before its journey
	// started, or whose journey has ended: errorCode 9200.
	ErrExpired = errors.New("the authorization token has expired")
	// ErrSessionExpired is a journey whose person did nothing for too long after its
	// start: errorCode 9210.
	ErrSessionExpired = errors.New("the session has expired")
)

// Journeys finds the journeys that can be made on the web. It is safe for
// concurrent use, and so are its journeys.
type Journeys interface {
	// ByToken returns the journey of an authorization token (of web.href). Its error
	// is one of this package's. With ErrExpired and ErrSessionExpired it may return
	// the journey too, so that the person can be sent to its error URL.
	ByToken(token string) (Journey, error)
}

// Journey is one workflow execution whose data a person provides on the web.
type Journey interface {
	AccountID() string
	WorkflowExecutionID() string
	CustomerInternalReference() string
	// SuccessURL and ErrorURL are where the browser goes at the end. Empty, or not an
	// absolute http or https URL: a page says it instead.
	SuccessURL() string
	ErrorURL() string
	// Locale is one of the guide's, such as "en-GB"; empty: English.
	Locale() string
	// DocumentTypes are those to choose from, such as ID_CARD; empty: the workflow
	// needs no document.
	DocumentTypes() []string
	// Countries are ISO 3166-1 alpha-3 codes to choose from; empty: any.
	Countries() []string
	// NeedsFace says that a picture of the face belongs to the journey.
	NeedsFace() bool
	// Start is called at the person's first action and at each further one: the
	// session starts, then its time-out starts again. Loading the page is no action.
	Start()
	// Finish takes the pictures, JPEG or PNG of at most 10 MiB each, by classifier:
	// FRONT, for an ID_CARD or a DRIVING_LICENSE also BACK, and FACE if it is needed.
	// documentType is empty if the workflow needs no document. An error of this
	// package ends the page with its errorCode, any other one with 9100.
	Finish(documentType string, pictures map[string][]byte) error
	// Fail ends the journey with one of the guide's error codes ("After the User
	// Journey"), 9100 to 9836.
	Fail(code int)
}
