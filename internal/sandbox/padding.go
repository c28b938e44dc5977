package sandbox

import "time"

// dlCategory is an element of data.dlCategories of an extraction.
type dlCategory struct {
	Category   string `json:"category"`
	IssueDate  string `json:"issueDate"`
	ExpiryDate string `json:"expiryDate"`
}

func newDLCategory(category string, doc paper) dlCategory {
	return dlCategory{category, doc.issued.Format(time.DateOnly), doc.expires.Format(time.DateOnly)}
}

// paddingCategories are all of the same length, so that all elements are.
var paddingCategories = []string{"AM", "A1", "A2", "BE", "B1", "CE", "C1", "DE", "D1"}

// pad makes the details about size bytes long, see Config.DetailsBytes.
func (d *details) pad(size int, doc paper) {
	extractions := d.Capabilities["extraction"]
	if len(extractions) == 0 || len(extractions[0].Data) == 0 {
		return
	}
	missing := size - len(jsonResponse(d).body)
	each := len(jsonResponse(newDLCategory(paddingCategories[0], doc)).body) + len(",")
	data := extractions[0].Data
	list, _ := data["dlCategories"].([]dlCategory)
	for n := range (missing + each/2) / each {
		list = append(list, newDLCategory(paddingCategories[n%len(paddingCategories)], doc))
	}
	if len(list) > 0 {
		data["dlCategories"] = list
	}
}
