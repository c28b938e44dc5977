package sandbox

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// docType is data.type of an extraction (guide, "capabilities.extraction.data").
type docType string

const (
	passport       docType = "PASSPORT"
	idCard         docType = "ID_CARD"
	drivingLicense docType = "DRIVING_LICENSE"
	visa           docType = "VISA"
)

// title is the document's name as a person says it.
func (d docType) title() string { return strings.ReplaceAll(string(d), "_", " ") }

type country struct {
	// code is ISO 3166-1 alpha-3.
	code, name string
	city       string
}

var countries = []country{
	{"AUT", "AUSTRIA", "WIEN"},
	{"DEU", "GERMANY", "BREMEN"},
	{"FRA", "FRANCE", "NANTES"},
	{"ESP", "SPAIN", "VALENCIA"},
	{"ITA", "ITALY", "TORINO"},
	{"POL", "POLAND", "GDANSK"},
	{"SWE", "SWEDEN", "MALMÖ"},
	{"GRC", "GREECE", "ΠΑΤΡΑ"},
	{"USA", "UNITED STATES OF AMERICA", "PORTLAND"},
	{"CAN", "CANADA", "HALIFAX"},
	{"BRA", "BRAZIL", "SÃO PAULO"},
	{"AUS", "AUSTRALIA", "PERTH"},
	{"SGP", "SINGAPORE", "SINGAPORE"},
	{"ZAF", "SOUTH AFRICA", "DURBAN"},
}

// The names are put together from invented parts; they are nobody's.
var (
	firstNames = [2][]string{
		{"ALVIRA", "BENELLE", "CORISSA", "DELPHINE", "EDLINDE", "FENJA", "GISMARA", "HALINKA", "ILVA", "JORUNDE", "KESSIA", "LIORA", "MÉLISANDE", "NOËLLA", "ÖDA", "PILARA"},
		{"ALARIC", "BRUNOLD", "CASIMIR", "DORVAN", "EMERIC", "FALKOR", "GREGOIRE", "HAVEL", "ISEMBARD", "JOVAN", "KASPIAN", "LÉANDER", "MORTEN", "NIKANOR", "ØYVARD", "PELAGIO"},
	}
	lastNames = []string{
		"ABENDSTERN", "BRACKWASSER", "CASTELVERDE", "DUNMOOR", "EICHENTHAL", "FARNHOLM", "GRAUWINKEL", "HOLLOWBY", "IRONDALE", "JUNIPERO",
		"KALTENBROOK", "LINDQVARN", "MONTFERRON", "NIGHTINGLEY", "ÓBROSKA", "PFEFFERSACK", "QUILLFEATHER", "ROSENQUIST-ADE", "STILLWATER", "THORNEVALE",
		"UNDERBOUGH", "VANDERMEEREN", "WYNDHAVEN", "YARROWBY", "ZIMTSTERN",
	}
	streets = []string{"ELM STREET", "STATION ROAD", "LINDENGASSE", "RUE DES MOULINS", "CALLE MAYOR", "HARBOUR WALK"}
)

// person is the invented holder of a document.
type person struct {
	firstName, lastName string
	gender              string // M or F, as the guide has it
	born                time.Time
	country             country
	address             string
	postalCode          string
}

// paper is the invented document. Its dates do not depend on the clock, so that
// the same seed draws the same picture on any day.
type paper struct {
	kind            docType
	subType         string
	number          string
	personalNumber  string
	issued, expires time.Time
}

func newPerson(rng *rand.Rand) person {
	sex := rng.IntN(2)
	return person{
		firstName:  pick(rng, firstNames[sex]),
		lastName:   pick(rng, lastNames),
		gender:     [2]string{"F", "M"}[sex],
		born:       date(1950+rng.IntN(56), rng),
		country:    pick(rng, countries),
		address:    fmt.Sprintf("%d %s", 1+rng.IntN(180), pick(rng, streets)),
		postalCode: fmt.Sprintf("%05d", 1000+rng.IntN(98000)),
	}
}

func newPaper(kind docType, rng *rand.Rand) paper {
	p := paper{
		kind:           kind,
		number:         fmt.Sprintf("%c%c%07d", 'A'+rng.IntN(26), 'A'+rng.IntN(26), rng.IntN(10_000_000)),
		personalNumber: fmt.Sprintf("%09d", rng.IntN(1_000_000_000)),
		issued:         date(2018+rng.IntN(8), rng),
	}
	years := 10
	switch kind {
	case passport:
		p.subType = "E_PASSPORT"
	case idCard:
		p.subType = pick(rng, []string{"NATIONAL_ID", "NATIONAL_ID", "RESIDENT_PERMIT_ID", "CONSULAR_ID", "MILITARY_ID"})
	case drivingLicense:
		p.subType, years = "REGULAR_DRIVING_LICENSE", 15
	case visa:
		years = 9
	}
	p.expires = p.issued.AddDate(years, 0, -1)
	return p
}

func date(year int, rng *rand.Rand) time.Time {
	return time.Date(year, time.Month(1+rng.IntN(12)), 1+rng.IntN(28), 0, 0, 0, 0, time.UTC)
}

func pick[T any](rng *rand.Rand, from []T) T { return from[rng.IntN(len(from))] }

// mrz is the machine readable zone that the picture shows (the shape of ICAO
// 9303's two lines; its check digits are zero, it is a specimen).
func (p person) mrz(doc paper) [2]string {
	fill := func(s string) string {
		s = strings.ToUpper(ascii.Replace(s))
		return s + strings.Repeat("<", max(0, 44-len(s)))
	}
	letter := string(doc.kind[:1])
	name := strings.ReplaceAll(p.lastName, "-", "<") + "<<" + p.firstName
	return [2]string{
		fill(letter + "<" + p.country.code + name)[:44],
		fill(doc.number + "0" + p.country.code + p.born.Format("060102") + "0" + p.gender + doc.expires.Format("060102") + "0" + doc.personalNumber)[:44],
	}
}

// ascii writes the letters of the invented names as a machine readable zone does.
var ascii = strings.NewReplacer("É", "E", "Ë", "E", "Ö", "OE", "Ø", "OE", "Ó", "O")
