// Package details reads the answers of Jumio's Retrieval API that are JSON (guide,
// "Get Workflow Details" and "Get Status") into typed values, and turns them into one
// decision with its reason.
//
// It is pure: it fetches and stores nothing. It never fails: what it cannot read is
// empty, and named.
package details

import "time"

// Limits on what is read. Jumio sends a fraction of this.
const (
	maxCredentials  = 1000
	maxCapabilities = 1000
	maxDocuments    = 100
	// maxParts is the number of image parts, face maps included.
	maxParts = 500
	// maxElements is the length of any other list.
	maxElements = 1000
	// maxUnreadable is the length of Details.Unreadable.
	maxUnreadable = 1000
	// maxText is the number of characters of a text.
	maxText = 4096
	// maxShort is the number of characters of a text that is an id, or is indexed.
	maxShort = 256
)

// The tag `jumio:"path"` names a field's member of the object: the guide's name, or the
// names within nested objects joined by dots. The option "short" limits a text to 256
// characters; so does "id", for which only a JSON string will do.
//
// Other texts may also be JSON numbers, as Postgres prints a numeric, and booleans. Any
// field is zero if it is missing, null or unreadable; an empty text counts as missing.
// The tags `db:"column"` are those of store.Row.

// Details are a workflow execution's details (guide, "Workflow Execution Response").
type Details struct {
	// WorkflowID is what the body says, and need not be the one asked for.
	WorkflowID string `jumio:"workflow.id,id"`
	// AccountID need not have the syntax of an id.
	AccountID string `db:"account_id" jumio:"account.id,id"`
	// Status is an open list.
	Status                    string `db:"status" jumio:"workflow.status"`
	DefinitionKey             string `db:"definition_key" jumio:"workflow.definitionKey"`
	UserReference             string `db:"user_reference" jumio:"workflow.userReference,short"`
	CustomerInternalReference string `db:"customer_internal_reference" jumio:"workflow.customerInternalReference,short"`

	// Times are in UTC, to the microsecond.
	CreatedAt   time.Time `db:"created_at" jumio:"createdAt"`
	StartedAt   time.Time `db:"started_at" jumio:"startedAt"`
	CompletedAt time.Time `db:"completed_at" jumio:"completedAt"`

	// DecisionType and DecisionLabel are Jumio's overall decision, which the guide does
	// not know yet.
	DecisionType  string `db:"decision_type" jumio:"decision.type,short"`
	DecisionLabel string `db:"decision_label" jumio:"decision.details.label,short"`
	// RiskScore is a decimal number without an exponent, -1 to 100.
	RiskScore string `db:"risk_score,numeric" jumio:"decision.risk.score"`

	// Credentials are in Jumio's order, at most 1,000.
	Credentials []Credential
	// Capabilities are in the order of jsonb: by the length of the capability's name, by
	// its bytes, by position; at most 1,000.
	Capabilities []Capability
	// Documents are in the order of Capabilities, at most 100.
	Documents []Document
	// Facemaps are those that capabilities name. Together with the credentials' parts
	// they are at most 500.
	Facemaps []Facemap
	// PartsOver is the number of parts and face maps beyond the limits.
	PartsOver int

	// Unreadable names each field that is there, not null and not what the guide says: of
	// another type, no date, too long; and each list that is too long. At most 1,000.
	//
	// A name is the path in the guide, without the capability: "createdAt",
	// "workflow.userReference", "decision.risk.score", "credentials.parts.href",
	// "capabilities.decision.type". What is in an extraction's data has its path there:
	// "dateOfBirth", "address.line1". A list that is no list, or has odd elements, goes by
	// its own name. The names are fixed, never the body's.
	Unreadable []string
}

// Credential is an element of credentials (guide, "credentials").
type Credential struct {
	// Position is the place in Jumio's order, from 1.
	Position     int32  `db:"position"`
	CredentialID string `db:"credential_id" jumio:"id,short"`
	// Category is an open list: ID, SELFIE, FACEMAP, DOCUMENT.
	Category string `db:"category" jumio:"category"`
	// Classifiers are those of Parts; never nil.
	Classifiers []string `db:"classifiers"`
	Parts       []Part
}

// Part is an element of a credential's parts.
type Part struct {
	// Classifier is an open list: FRONT, BACK, FACE.
	Classifier string `jumio:"classifier"`
	// Href is as Jumio sent it: not to be trusted.
	Href string `jumio:"href"`
}

// Capability is a result of a capability (guide, "capabilities").
type Capability struct {
	// Capability is an open list: usability, imageChecks, extraction.
	Capability string `db:"capability,notnull"`
	// Position is the place among the results of this capability, from 1.
	Position     int32  `db:"position"`
	CapabilityID string `db:"capability_id" jumio:"id,short"`
	// DecisionType is an open list: PASSED, REJECTED, WARNING, NOT_EXECUTED.
	DecisionType  string `db:"decision_type" jumio:"decision.type,short"`
	DecisionLabel string `db:"decision_label" jumio:"decision.details.label,short"`
	// CredentialIDs and CredentialCategories are of the credentials that it was executed
	// on, those that have one; never nil.
	CredentialIDs        []string `db:"credential_ids"`
	CredentialCategories []string `db:"credential_categories"`
	// Similarity is data.similarity of the capability similarity.
	Similarity string `db:"similarity"`
	// LivenessType is data.type of the capability liveness.
	LivenessType string `db:"liveness_type"`
	// ValidFacemapForAuthentication is an href as Jumio sent it: not to be trusted.
	ValidFacemapForAuthentication string `db:"valid_face_map_for_authentication" jumio:"validFaceMapForAuthentication"`
}

// Facemap is a face map that a capability names with validFaceMapForAuthentication.
type Facemap struct {
	// Href is as Jumio sent it: not to be trusted, never empty.
	Href string
	// Credentials are those of the capability.
	Credentials []CredentialRef
}

// CredentialRef is an element of a capability's credentials.
type CredentialRef struct {
	ID       string `jumio:"id,short"`
	Category string `jumio:"category"`
}

// Document is what was read from a document: an extraction result whose data is an
// object (guide, "capabilities.extraction.data"). Dates are midnight UTC.
type Document struct {
	// Position and CredentialIDs are those of the extraction's Capability.
	Position      int32    `db:"position"`
	CredentialIDs []string `db:"credential_ids"`

	Type                         string    `db:"type" jumio:"type"`
	SubType                      string    `db:"sub_type" jumio:"subType"`
	IssuingCountry               string    `db:"issuing_country" jumio:"issuingCountry,short"`
	FirstName                    string    `db:"first_name" jumio:"firstName"`
	LastName                     string    `db:"last_name" jumio:"lastName"`
	DateOfBirth                  time.Time `db:"date_of_birth,date" jumio:"dateOfBirth"`
	ExpiryDate                   time.Time `db:"expiry_date,date" jumio:"expiryDate"`
	IssuingDate                  time.Time `db:"issuing_date,date" jumio:"issuingDate"`
	DocumentNumber               string    `db:"document_number" jumio:"documentNumber,short"`
	Gender                       string    `db:"gender" jumio:"gender"`
	Nationality                  string    `db:"nationality" jumio:"nationality"`
	State                        string    `db:"state" jumio:"state"`
	PersonalNumber               string    `db:"personal_number" jumio:"personalNumber"`
	OptionalMRZField1            string    `db:"optional_mrz_field1" jumio:"optionalMrzField1"`
	OptionalMRZField2            string    `db:"optional_mrz_field2" jumio:"optionalMrzField2"`
	IssuingAuthority             string    `db:"issuing_authority" jumio:"issuingAuthority"`
	IssuingPlace                 string    `db:"issuing_place" jumio:"issuingPlace"`
	CURP                         string    `db:"curp" jumio:"curp"`
	PlaceOfBirth                 string    `db:"place_of_birth" jumio:"placeOfBirth"`
	TaxNumber                    string    `db:"tax_number" jumio:"taxNumber"`
	CPF                          string    `db:"cpf" jumio:"cpf"`
	RegistrationNumber           string    `db:"registration_number" jumio:"registrationNumber"`
	MothersName                  string    `db:"mothers_name" jumio:"mothersName"`
	FathersName                  string    `db:"fathers_name" jumio:"fathersName"`
	PersonalIdentificationNumber string    `db:"personal_identification_number" jumio:"personalIdentificationNumber"`
	RGNumber                     string    `db:"rg_number" jumio:"rgNumber"`
	// DLCategories are the elements that are texts, and the category of those that are
	// objects; nil for none.
	DLCategories    []string `db:"dl_categories" jumio:"dlCategories"`
	VoterIDNumber   string   `db:"voter_id_number" jumio:"voterIdNumber"`
	IssuingNumber   string   `db:"issuing_number" jumio:"issuingNumber"`
	PassportNumber  string   `db:"passport_number" jumio:"passportNumber"`
	DurationOfStay  string   `db:"duration_of_stay" jumio:"durationOfStay"`
	NumberOfEntries string   `db:"number_of_entries" jumio:"numberOfEntries"`
	VisaCategory    string   `db:"visa_category" jumio:"visaCategory"`
	DNI             string   `db:"dni" jumio:"dni"`
	PESEL           string   `db:"pesel" jumio:"pesel"`

	// The address is of the guide's "capabilities.extraction.data.address".
	AddressLine1       string `db:"address_line1" jumio:"address.line1"`
	AddressLine2       string `db:"address_line2" jumio:"address.line2"`
	AddressLine3       string `db:"address_line3" jumio:"address.line3"`
	AddressLine4       string `db:"address_line4" jumio:"address.line4"`
	AddressLine5       string `db:"address_line5" jumio:"address.line5"`
	AddressCountry     string `db:"address_country" jumio:"address.country"`
	AddressPostalCode  string `db:"address_postal_code" jumio:"address.postalCode"`
	AddressSubdivision string `db:"address_subdivision" jumio:"address.subdivision"`
	AddressCity        string `db:"address_city" jumio:"address.city"`
	AddressFormatted   string `db:"address_formatted" jumio:"address.formattedAddress"`
}

// Status is the response of Get Status (guide, "Status Response").
type Status struct {
	WorkflowID    string `jumio:"workflowExecution.id,id"`
	AccountID     string `jumio:"account.id,id"`
	Status        string `jumio:"workflowExecution.status"`
	DefinitionKey string `jumio:"workflowExecution.definitionKey"`
}
