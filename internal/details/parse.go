package details

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"

	"github.com/tidwall/gjson"
)

var (
	detailsShape    = shapeOf[Details]("")
	credentialShape = shapeOf[Credential]("credentials.")
	partShape       = shapeOf[Part]("credentials.parts.")
	capabilityShape = shapeOf[Capability]("capabilities.")
	refShape        = shapeOf[CredentialRef]("capabilities.credentials.")
	documentShape   = shapeOf[Document]("")
	statusShape     = shapeOf[Status]("")
)

// Parse reads the details of a workflow execution (guide, "Get Workflow Details").
// Anything but a JSON object, or one nested deeper than 10,000, gives empty details.
//
// It reads as the database does in jsonb: names are matched exactly, the last of
// duplicates wins, an object stands for a list of one, and U+FFFD for what a text cannot
// hold: U+0000, lone surrogates, invalid UTF-8, numbers of more than 1,000 characters or
// with an exponent beyond ±1,000.
func Parse(body []byte) *Details {
	r := &reader{d: new(Details), over: map[string]bool{}}
	if !json.Valid(body) {
		return r.d
	}
	root := gjson.ParseBytes(body)
	if !root.IsObject() {
		return r.d
	}
	detailsShape.fill(root, r.d, r.unreadable)
	r.credentials(find(root, "credentials"))
	r.capabilities(find(root, "capabilities"))
	return r.d
}

// ParseStatus reads the status of a workflow execution (guide, "Get Status") as Parse
// reads details.
func ParseStatus(body []byte) Status {
	var s Status
	if json.Valid(body) {
		statusShape.fill(gjson.ParseBytes(body), &s, func(string) {})
	}
	return s
}

// reader reads what is in lists.
type reader struct {
	d *Details
	// parts counts those read, face maps included.
	parts int
	// over are the fields over their limits.
	over map[string]bool
}

func (r *reader) unreadable(field string) {
	if len(r.d.Unreadable) < maxUnreadable {
		r.d.Unreadable = append(r.d.Unreadable, field)
	}
}

// overLimit names a list that is too long, once.
func (r *reader) overLimit(field string) {
	if !r.over[field] {
		r.over[field] = true
		r.unreadable(field)
	}
}

// eachObject visits the objects in a list.
func (r *reader) eachObject(list gjson.Result, field string, read func(position int32, object gjson.Result)) {
	ok := eachElement(list, func(position int32, element gjson.Result) {
		if element.IsObject() {
			read(position, element)
		} else if element.Type != gjson.Null {
			r.unreadable(field)
		}
	})
	if !ok {
		r.unreadable(field)
	}
}

// hasRoom reports whether one more part may be read, and counts it.
func (r *reader) hasRoom(field string) bool {
	if r.parts == maxParts {
		r.d.PartsOver++
		r.overLimit(field)
		return false
	}
	r.parts++
	return true
}

func (r *reader) credentials(list gjson.Result) {
	r.eachObject(list, "credentials", func(position int32, object gjson.Result) {
		parts := find(object, "parts")
		if len(r.d.Credentials) == maxCredentials {
			r.overLimit("credentials")
			r.eachObject(parts, "credentials.parts", func(int32, gjson.Result) { r.d.PartsOver++ })
			return
		}
		c := Credential{Position: position, Classifiers: []string{}}
		credentialShape.fill(object, &c, r.unreadable)
		r.eachObject(parts, "credentials.parts", func(_ int32, object gjson.Result) {
			if !r.hasRoom("credentials.parts") {
				return
			}
			var p Part
			partShape.fill(object, &p, r.unreadable)
			c.Parts = append(c.Parts, p)
			if p.Classifier != "" {
				c.Classifiers = append(c.Classifiers, p.Classifier)
			}
		})
		r.d.Credentials = append(r.d.Credentials, c)
	})
}

// capabilities reads the results in the order of jsonb. Of capabilities that are too
// many, or whose name is too long, it reads the face maps alone, and first.
func (r *reader) capabilities(object gjson.Result) {
	if object.Type != gjson.Null && !object.IsObject() {
		r.unreadable("capabilities")
	}
	byName := map[string]gjson.Result{}
	eachMember(object, func(name, results gjson.Result) {
		s, ok := text(name, maxShort)
		if _, known := byName[s]; ok && (known || len(byName) < maxCapabilities) {
			byName[s] = results
			return
		}
		r.overLimit("capabilities")
		eachElement(results, func(_ int32, result gjson.Result) { r.facemapAlone(result) })
	})
	for _, name := range slices.SortedFunc(maps.Keys(byName), compareNames) {
		ok := eachElement(byName[name], func(position int32, result gjson.Result) { r.capability(name, position, result) })
		if !ok {
			r.unreadable("capabilities")
		}
	}
}

// compareNames is the order of jsonb.
func compareNames(a, b string) int {
	return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
}

// capability reads an element of a capability's results, which has a position even if it
// is no object.
func (r *reader) capability(name string, position int32, result gjson.Result) {
	if len(r.d.Capabilities) == maxCapabilities {
		r.overLimit("capabilities")
		r.facemapAlone(result)
		return
	}
	if result.Type != gjson.Null && !result.IsObject() {
		r.unreadable("capabilities")
	}
	c := Capability{Capability: name, Position: position, CredentialIDs: []string{}, CredentialCategories: []string{}}
	capabilityShape.fill(result, &c, r.unreadable)
	refs := r.refs(find(result, "credentials"))
	for _, ref := range refs {
		if ref.ID != "" {
			c.CredentialIDs = append(c.CredentialIDs, ref.ID)
		}
		if ref.Category != "" {
			c.CredentialCategories = append(c.CredentialCategories, ref.Category)
		}
	}
	r.data(&c, find(result, "data"))
	r.d.Capabilities = append(r.d.Capabilities, c)
	if c.ValidFacemapForAuthentication != "" && r.hasRoom("capabilities.validFaceMapForAuthentication") {
		r.d.Facemaps = append(r.d.Facemaps, Facemap{c.ValidFacemapForAuthentication, refs})
	}
}

// facemapAlone reads only the face map of a capability's result.
func (r *reader) facemapAlone(result gjson.Result) {
	href, _ := text(find(result, "validFaceMapForAuthentication"), maxText)
	if href != "" && r.hasRoom("capabilities.validFaceMapForAuthentication") {
		r.d.Facemaps = append(r.d.Facemaps, Facemap{href, r.refs(find(result, "credentials"))})
	}
}

// refs reads the credentials that a capability was executed on.
func (r *reader) refs(credentials gjson.Result) []CredentialRef {
	var refs []CredentialRef
	r.eachObject(credentials, "capabilities.credentials", func(_ int32, object gjson.Result) {
		if len(refs) == maxElements {
			r.overLimit("capabilities.credentials")
			return
		}
		var ref CredentialRef
		refShape.fill(object, &ref, r.unreadable)
		refs = append(refs, ref)
	})
	return refs
}

// data reads the data of a capability, of those for which the guide has it.
func (r *reader) data(c *Capability, data gjson.Result) {
	name, to := "", (*string)(nil)
	switch c.Capability {
	case "extraction":
	case "liveness":
		name, to = "type", &c.LivenessType
	case "similarity":
		name, to = "similarity", &c.Similarity
	default:
		return
	}
	switch {
	case data.Type == gjson.Null:
	case !data.IsObject():
		r.unreadable("capabilities.data")
	case to == nil:
		r.document(c, data)
	default:
		s, ok := text(find(data, name), maxText)
		if !ok {
			r.unreadable("capabilities.data." + name)
		}
		*to = s
	}
}

func (r *reader) document(c *Capability, data gjson.Result) {
	if len(r.d.Documents) == maxDocuments {
		r.overLimit("capabilities.data")
		return
	}
	d := Document{Position: c.Position, CredentialIDs: c.CredentialIDs}
	documentShape.fill(data, &d, r.unreadable)
	r.d.Documents = append(r.d.Documents, d)
}

// categories reads dlCategories, and reports whether it could read all of it.
func categories(value gjson.Result) (list []string, ok bool) {
	ok = true
	isList := eachElement(value, func(position int32, element gjson.Result) {
		if position > maxElements {
			ok = false
			return
		}
		if element.IsObject() {
			element = find(element, "category")
		}
		s, readable := text(element, maxText)
		if s != "" {
			list = append(list, s)
		}
		ok = ok && readable
	})
	return list, ok && isList
}
