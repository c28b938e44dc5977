package details

import (
	"reflect"
	"strings"
	"time"

	"github.com/tidwall/gjson"
)

// shape is how an object is read into a struct, by the struct's tags.
type shape struct {
	members []member
	byName  map[string]int
}

// member is a member of the object: a field of the struct, or an object with fields.
type member struct {
	field  string // its name in Details.Unreadable
	object *shape // nil for a field
	index  []int
	read   func(value gjson.Result, to reflect.Value) (ok bool)
}

// shapeOf reads the tags of T. The prefix is put before the names of fields. It panics
// if a tagged field has a type that cannot be read.
func shapeOf[T any](prefix string) *shape {
	s := new(shape)
	for _, f := range reflect.VisibleFields(reflect.TypeFor[T]()) {
		tag, tagged := f.Tag.Lookup("jumio")
		if !tagged {
			continue
		}
		path, option, _ := strings.Cut(tag, ",")
		_, dbOption, _ := strings.Cut(f.Tag.Get("db"), ",")
		s.add(strings.Split(path, "."), prefix, member{field: prefix + path, index: f.Index, read: readerOf(f.Type, option, dbOption)})
	}
	return s
}

func (s *shape) add(path []string, prefix string, m member) {
	if len(path) == 1 {
		s.put(path[0], m)
		return
	}
	i, known := s.byName[path[0]]
	if !known {
		i = s.put(path[0], member{field: prefix + path[0], object: new(shape)})
	}
	s.members[i].object.add(path[1:], prefix+path[0]+".", m)
}

func (s *shape) put(name string, m member) int {
	if s.byName == nil {
		s.byName = map[string]int{}
	}
	s.byName[name] = len(s.members)
	s.members = append(s.members, m)
	return s.byName[name]
}

// readerOf returns what reads a value into a field, and reports whether all of it could
// be read.
func readerOf(t reflect.Type, option, dbOption string) func(gjson.Result, reflect.Value) bool {
	limit := maxText
	if option != "" {
		limit = maxShort
	}
	switch {
	case t == reflect.TypeFor[time.Time]():
		parse := parseTime
		if dbOption == "date" {
			parse = parseDate
		}
		return func(value gjson.Result, to reflect.Value) bool {
			s, ok := text(value, limit)
			if !ok || s == "" {
				return ok
			}
			parsed, ok := parse(s)
			to.Set(reflect.ValueOf(parsed))
			return ok
		}
	case t == reflect.TypeFor[[]string]():
		return func(value gjson.Result, to reflect.Value) bool {
			list, ok := categories(value)
			to.Set(reflect.ValueOf(list))
			return ok
		}
	case t.Kind() == reflect.String:
		return func(value gjson.Result, to reflect.Value) bool {
			if option == "id" && value.Type != gjson.String || dbOption == "numeric" && value.Type != gjson.Number {
				return false
			}
			s, ok := text(value, limit)
			if dbOption == "numeric" && s == replacement {
				return false
			}
			to.SetString(s)
			return ok
		}
	}
	panic("cannot read a " + t.String())
}

// fill reads an object into the struct that to points to, and names what is unreadable.
func (s *shape) fill(object gjson.Result, to any, unreadable func(field string)) {
	s.fillValue(object, reflect.ValueOf(to).Elem(), unreadable)
}

func (s *shape) fillValue(object gjson.Result, to reflect.Value, unreadable func(field string)) {
	values := make([]gjson.Result, len(s.members))
	eachMember(object, func(name, value gjson.Result) {
		if i, wanted := s.byName[name.Str]; wanted {
			values[i] = value
		}
	})
	for i, m := range s.members {
		switch value := values[i]; {
		case value.Type == gjson.Null: // or missing
		case m.object == nil:
			if !m.read(value, to.FieldByIndex(m.index)) {
				unreadable(m.field)
			}
		case value.IsObject():
			m.object.fillValue(value, to, unreadable)
		default:
			unreadable(m.field)
		}
	}
}

// eachMember visits an object's members in order, so that the last duplicate wins.
// Anything but an object has none. It does not fill a struct with encoding/json, which
// ignores the case of names; the views did not. gjson makes no copies, so a 32 MiB
// document of nothing but members is harmless. It needs valid JSON.
func eachMember(object gjson.Result, read func(name, value gjson.Result)) {
	if object.IsObject() {
		object.ForEach(func(name, value gjson.Result) bool {
			read(name, value)
			return true
		})
	}
}

// find returns a member of an object, one of type gjson.Null if there is none.
func find(object gjson.Result, member string) (found gjson.Result) {
	eachMember(object, func(name, value gjson.Result) {
		if name.Str == member {
			found = value
		}
	})
	return found
}

// eachElement visits an array's elements, or the one object that stands in an array's
// place, with their positions from 1. It reports whether value is either, or null.
func eachElement(value gjson.Result, read func(position int32, element gjson.Result)) (ok bool) {
	switch {
	case value.IsArray():
		n := int32(0)
		value.ForEach(func(_, element gjson.Result) bool {
			n++
			read(n, element)
			return true
		})
	case value.IsObject():
		read(1, value)
	default:
		return value.Type == gjson.Null
	}
	return true
}
