package journey

import (
	"encoding/json"
	"time"
)

// dlCategory is an element of data.dlCategories of an extraction.
type dlCategory struct {
	Category   string `json:"category"`
	IssueDate  string `json:"issueDate"`
	ExpiryDate string `json:"expiryDate"`
}

func newDLCategory(category string, doc Document) dlCategory {
	return dlCategory{category, doc.Issued.Format(time.DateOnly), doc.Expires.Format(time.DateOnly)}
}

// paddingCategories are all of the same length, so that all elements are.
var paddingCategories = []string{"AM", "A1", "A2", "BE", "B1", "CE", "C1", "DE", "D1"}

// pad makes the details about size bytes long, see Settings.DetailsBytes.
func (d *Details) pad(size int, doc Document) {
	extractions := d.Capabilities["extraction"]
	if len(extractions) == 0 || len(extractions[0].Data) == 0 {
		return
	}
	missing := size - len(jsonOf(d))
	each := len(jsonOf(newDLCategory(paddingCategories[0], doc))) + len(",")
	data := extractions[0].Data
	list, _ := data["dlCategories"].([]dlCategory)
	for n := range (missing + each/2) / each {
		list = append(list, newDLCategory(paddingCategories[n%len(paddingCategories)], doc))
	}
	if len(list) > 0 {
		data["dlCategories"] = list
	}
}

// jsonOf cannot fail: there are only texts, numbers, lists and maps.
func jsonOf(value any) []byte {
	text, _ := json.Marshal(value)
	return text
}
