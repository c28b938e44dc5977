package web

import "strings"

// The guide's error codes that the page itself needs.
const (
	codeServer       = 9100
	codeToken        = 9200
	codeSession      = 9210
	codeTransmission = 9300
	codeClient       = 9801
)

// errorCode is how a journey on the web can fail.
type errorCode struct {
	Code int
	// Meaning is the guide's.
	Meaning string
}

// errorCodes are those of the guide's section "After the User Journey", in its order.
func errorCodes() []errorCode {
	return []errorCode{
		{codeServer, "Error occurred on our server."},
		{codeToken, "Authorization token missing, invalid, or expired."},
		{codeSession, "Session expired after the user journey started."},
		{codeTransmission, "Error occurred transmitting image to our server."},
		{9400, "Error occurred during verification step."},
		{9800, "User has no network connection."},
		{codeClient, "Unexpected error occurred in the client."},
		{9810, "Problem while communicating with our server."},
		{9820, "File upload not enabled and camera unavailable."},
		{9821, "The biometric face capture process failed."},
		{9822, "Browser does not support camera."},
		{9835, "No acceptable submission in 3 attempts."},
		{9836, "Authentication failure."},
	}
}

// document is one that a person can choose.
type document struct {
	Type, Name string
	Parts      []string
}

// Classifiers are the document's parts, as the page's script reads them.
func (d document) Classifiers() string { return strings.Join(d.Parts, " ") }

// documents takes any type, since DOCUMENT's are an open list; those that the guide
// does not know have a front alone.
func documents(types []string) []document {
	all := make([]document, len(types))
	for i, t := range types {
		switch t {
		case "ID_CARD":
			all[i] = document{t, "Identity card", []string{"FRONT", "BACK"}}
		case "DRIVING_LICENSE":
			all[i] = document{t, "Driving licence", []string{"FRONT", "BACK"}}
		case "PASSPORT":
			all[i] = document{t, "Passport", []string{"FRONT"}}
		case "VISA":
			all[i] = document{t, "Visa", []string{"FRONT"}}
		default:
			all[i] = document{t, t, []string{"FRONT"}}
		}
	}
	return all
}

// countries are a few where any will do.
func countries(codes []string) []string {
	if len(codes) > 0 {
		return codes
	}
	return []string{"AUT", "CAN", "DEU", "GBR", "USA"}
}
