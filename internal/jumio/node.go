package jumio

import (
	"bytes"
	"encoding/json"
)

// node is a value in decoded JSON, nil where there is none. Reading it never fails: a
// value of another type counts as absent. Names are matched exactly.
type node struct{ value any }

// parseObject decodes a JSON object, with numbers as they are written. ok is false for
// anything else.
func parseObject(body []byte) (object node, ok bool) {
	if !isJSONObject(body) {
		return node{}, false
	}
	in := json.NewDecoder(bytes.NewReader(body))
	in.UseNumber()
	var value any
	if in.Decode(&value) != nil {
		return node{}, false
	}
	return node{value}, true
}

// at follows names through objects.
func (n node) at(names ...string) node {
	for _, name := range names {
		object, _ := n.value.(map[string]any)
		n = node{object[name]}
	}
	return n
}

func (n node) text() string {
	s, _ := n.value.(string)
	return s
}

// id is a text with the syntax of an id, or "".
func (n node) id() string { return idOrNone(n.text()) }

func (n node) list() []node {
	values, _ := n.value.([]any)
	nodes := make([]node, len(values))
	for i, value := range values {
		nodes[i] = node{value}
	}
	return nodes
}

// texts are the texts in an array.
func (n node) texts() []string {
	var texts []string
	for _, element := range n.list() {
		if s, ok := element.value.(string); ok {
			texts = append(texts, s)
		}
	}
	return texts
}

// members are the texts in an object, by name.
func (n node) members() map[string]string {
	object, _ := n.value.(map[string]any)
	texts := make(map[string]string, len(object))
	for name, value := range object {
		if s, ok := value.(string); ok {
			texts[name] = s
		}
	}
	return texts
}
