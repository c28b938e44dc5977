package journey

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// DocumentType is data.type of an extraction (guide, "capabilities.extraction.data").
type DocumentType string

// The documents of the guide.
const (
	Passport       DocumentType = "PASSPORT"
	IDCard         DocumentType = "ID_CARD"
	DrivingLicense DocumentType = "DRIVING_LICENSE"
	Visa           DocumentType = "VISA"
)

// Country is where a person lives, and where the document is from.
type Country struct {
	// Code is ISO 3166-1 alpha-3.
	Code, Name string
	City       string
}

var countries = []Country{
	{"AUT", "AUSTRIA", "WIEN"},
	{"DEU", "GERMANY", "BREMEN"},
	{"FRA", "FRANCE", "NANTES"},
	{"POL", "POLAND", "GDANSK"},
	{"SWE", "SWEDEN", "MALMÖ"},
	{"GRC", "GREECE", "ΠΑΤΡΑ"},
	{"USA", "UNITED STATES OF AMERICA", "PORTLAND"},
	{"BRA", "BRAZIL", "SÃO PAULO"},
	{"SGP", "SINGAPORE", "SINGAPORE"},
	{"ZAF", "SOUTH AFRICA", "DURBAN"},
}

// furtherCountries are not drawn.
var furtherCountries = []Country{
	{"ESP", "SPAIN", "VIGO"},
	{"GBR", "UNITED KINGDOM", "NORWICH"},
	{"ITA", "ITALY", "PARMA"},
	{"MEX", "MEXICO", "PUEBLA"},
	{"TUR", "TURKEY", "BURSA"},
}

// countryOf takes every code; of unknown ones it knows no names.
func countryOf(code string) Country {
	known := slices.Concat(countries, furtherCountries)
	if i := slices.IndexFunc(known, func(c Country) bool { return c.Code == code }); i >= 0 {
		return known[i]
	}
	return Country{code, code, "CAPITAL CITY"}
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

// Person is the invented holder of a document.
type Person struct {
	FirstName, LastName string
	Gender              string // M or F, as the guide has it
	Born                time.Time
	Country             Country
	Address             string
	PostalCode          string
}

// Nobody is the holder on pictures that show nobody in particular.
var Nobody = Person{FirstName: "NOBODY", LastName: "SPECIMEN", Gender: "F", Country: countries[0], Address: "1 ELM STREET", PostalCode: "01000"}

// Document is the invented document. Its dates do not depend on the clock, so that
// the same seed draws the same picture on any day.
type Document struct {
	Kind            DocumentType
	SubType         string
	Number          string
	PersonalNumber  string
	Issued, Expires time.Time
}

func newPerson(rng *rand.Rand) Person {
	sex := rng.IntN(2)
	return Person{
		FirstName:  pick(rng, firstNames[sex]),
		LastName:   pick(rng, lastNames),
		Gender:     [2]string{"F", "M"}[sex],
		Born:       date(1950+rng.IntN(56), rng),
		Country:    pick(rng, countries),
		Address:    fmt.Sprintf("%d %s", 1+rng.IntN(180), pick(rng, streets)),
		PostalCode: fmt.Sprintf("%05d", 1000+rng.IntN(98000)),
	}
}

func newDocument(kind DocumentType, rng *rand.Rand) Document {
	p := Document{
		Kind:           kind,
		Number:         fmt.Sprintf("%c%c%07d", 'A'+rng.IntN(26), 'A'+rng.IntN(26), rng.IntN(10_000_000)),
		PersonalNumber: fmt.Sprintf("%09d", rng.IntN(1_000_000_000)),
		Issued:         date(2018+rng.IntN(8), rng),
	}
	years := 10
	switch kind {
	case Passport:
		p.SubType = "E_PASSPORT"
	case IDCard:
		p.SubType = pick(rng, []string{"NATIONAL_ID", "NATIONAL_ID", "RESIDENT_PERMIT_ID", "CONSULAR_ID", "MILITARY_ID"})
	case DrivingLicense:
		p.SubType, years = "REGULAR_DRIVING_LICENSE", 15
	case Visa:
		years = 9
	}
	p.Expires = p.Issued.AddDate(years, 0, -1)
	return p
}

// as is the same document, but of another kind.
func (d Document) as(kind DocumentType) Document {
	if kind == d.Kind {
		return d
	}
	d.Kind = kind
	d.SubType = map[DocumentType]string{Passport: "E_PASSPORT", IDCard: "NATIONAL_ID", DrivingLicense: "REGULAR_DRIVING_LICENSE"}[kind]
	return d
}

func date(year int, rng *rand.Rand) time.Time {
	return time.Date(year, time.Month(1+rng.IntN(12)), 1+rng.IntN(28), 0, 0, 0, 0, time.UTC)
}

func pick[T any](rng *rand.Rand, from []T) T { return from[rng.IntN(len(from))] }

// MRZ is the machine readable zone that the picture shows (the shape of ICAO
// 9303's two lines; its check digits are zero, it is a specimen).
func (p Person) MRZ(doc Document) [2]string {
	fill := func(s string) string {
		s = strings.ToUpper(ascii.Replace(s))
		return s + strings.Repeat("<", max(0, 44-len(s)))
	}
	letter := string(doc.Kind[:1])
	name := strings.ReplaceAll(p.LastName, "-", "<") + "<<" + p.FirstName
	return [2]string{
		fill(letter + "<" + p.Country.Code + name)[:44],
		fill(doc.Number + "0" + p.Country.Code + p.Born.Format("060102") + "0" + p.Gender + doc.Expires.Format("060102") + "0" + doc.PersonalNumber)[:44],
	}
}

// ascii writes the letters of the invented names as a machine readable zone does.
var ascii = strings.NewReplacer("É", "E", "Ë", "E", "Ö", "OE", "Ø", "OE", "Ó", "O")
