package journey

import (
	"fmt"
	"hash/fnv"
)

// nationalKinds show the fields of an extraction that the guide names for some
// countries' documents alone.
func nationalKinds() []Kind {
	return []Kind{
		{Name: "passed-passport-germany", Description: "passport with issuing authority and place", key: "2", document: Passport, country: "DEU", weight: 1},
		{Name: "passed-id-card-brazil", Description: "ID card with CPF, RG and registration number, and the parents' names", key: "2", document: IDCard, country: "BRA", weight: 1},
		{Name: "passed-id-card-mexico", Description: "voter's card with CURP, voter id and issuing number", key: "2", document: IDCard, subType: "ELECTORAL_ID", country: "MEX", weight: 1},
		{Name: "passed-id-card-poland", Description: "ID card with PESEL", key: "2", document: IDCard, subType: "NATIONAL_ID", country: "POL", weight: 1},
		{Name: "passed-id-card-spain", Description: "ID card with DNI", key: "2", document: IDCard, subType: "NATIONAL_ID", country: "ESP", weight: 1},
		{Name: "passed-id-card-turkey", Description: "ID card with a personal identification number", key: "2", document: IDCard, subType: "NATIONAL_ID", country: "TUR", weight: 1},
		{Name: "passed-tax-card-italy", Description: "tax card with a tax number", key: "2", document: IDCard, subType: "TAX_ID", country: "ITA", weight: 1},
		{Name: "passed-driving-license-uk", Description: "driving license with an address of five lines", key: "2", document: DrivingLicense, country: "GBR", weight: 1},
		{Name: "passed-driving-license-usa", Description: "driving license of a state", key: "2", document: DrivingLicense, country: "USA", weight: 1},
	}
}

// subdivisions are states or regions of the invented cities.
var subdivisions = map[string]string{"USA": "OR", "BRA": "SP", "MEX": "PUE", "GBR": "NORFOLK"}

// address is data.address of an extraction (guide, "capabilities.extraction.data.address").
func (j *Journey) address() map[string]any {
	h := j.Holder
	a := map[string]any{
		"line1": h.Address, "city": h.Country.City, "postalCode": h.PostalCode, "country": h.Country.Code,
		"formattedAddress": h.Address + ", " + h.PostalCode + " " + h.Country.City + ", " + h.Country.Code,
	}
	if subdivision, ok := subdivisions[h.Country.Code]; ok {
		a["subdivision"] = subdivision
	}
	if h.Country.Code == "GBR" {
		a["line1"], a["line2"], a["line3"], a["line4"], a["line5"] = "FLAT 2", "THE OLD MILL", h.Address, "RIVERSIDE", h.Country.City
	}
	return a
}

// addNational adds to the data of an extraction what the guide has for documents of
// the holder's country.
func (j *Journey) addNational(data map[string]any) {
	h, doc := j.Holder, j.Document
	parents := func() {
		data["mothersName"], data["fathersName"] = firstNames[0][0]+" "+h.LastName, firstNames[1][0]+" "+h.LastName
	}
	switch country := h.Country.Code; {
	case country == "DEU":
		data["issuingAuthority"], data["issuingPlace"] = "STADT "+h.Country.City, h.Country.City
	case country == "USA" && doc.Kind != Passport:
		data["state"] = subdivisions[country]
	case country == "BRA":
		data["cpf"], data["rgNumber"], data["registrationNumber"] = j.number("cpf", 11), j.number("rg", 9), j.number("registration", 11)
		parents()
	case country == "MEX":
		data["curp"], data["voterIdNumber"], data["issuingNumber"] = "CURP"+j.number("curp", 14), j.number("voter", 13), j.number("issuing", 2)
		parents()
	case country == "POL":
		data["pesel"] = j.number("pesel", 11)
	case country == "ESP" && doc.SubType == "NATIONAL_ID":
		data["dni"] = j.number("dni", 8) + "X"
	case country == "TUR" && doc.Kind != Passport:
		data["personalIdentificationNumber"] = j.number("pin", 11)
	case country == "ITA" && (doc.SubType == "TAX_ID" || doc.SubType == "HEALTH_ID"):
		data["taxNumber"] = "SPECIMEN" + j.number("tax", 8)
	}
}

// number is one of so many digits, at most 19, that depends on the journey and the
// name alone.
func (j *Journey) number(name string, digits int) string {
	sum := fnv.New64a()
	_, _ = sum.Write([]byte(j.WorkflowExecutionID + name)) // a hash takes everything
	return fmt.Sprintf("%019d", sum.Sum64()>>1)[19-digits:]
}
