package details

import (
	"encoding/json"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tidwall/gjson"
)

// replacement stands for what Postgres cannot hold.
const replacement = "\uFFFD"

// maxNumber is the length of a number, and its largest exponent, that are kept as a
// number when details are stored as jsonb.
const maxNumber = 1000

// text returns a scalar as text: a string as encoding/json reads it, with U+FFFD for
// NUL, a number as Postgres prints a numeric, a boolean. Anything else is not ok, and so
// is a text of more than limit characters. The text is a copy, which does not keep the
// document in memory.
func text(value gjson.Result, limit int) (s string, ok bool) {
	switch value.Type {
	case gjson.String:
		// A character is at most two escapes of six bytes.
		if len(value.Raw) > len(`""`)+12*limit {
			return "", false
		}
		s = decode(value)
	case gjson.Number:
		s = numericText(value.Raw)
	case gjson.True, gjson.False:
		s = value.Raw
	default:
		return "", value.Type == gjson.Null
	}
	if len(s) > limit && utf8.RuneCountInString(s) > limit {
		return "", false
	}
	return strings.Clone(s), true
}

// decode reads a string, or the name of a member.
func decode(value gjson.Result) string {
	if strings.IndexByte(value.Raw, '\\') < 0 && utf8.ValidString(value.Str) {
		return value.Str
	}
	// encoding/json has the last word on odd escapes. Valid JSON never fails.
	var s string
	_ = json.Unmarshal([]byte(value.Raw), &s)
	return strings.ReplaceAll(s, "\x00", replacement)
}

// numericText writes a JSON number as Postgres prints it as a numeric: without an
// exponent, with as many decimals as are written.
func numericText(number string) string {
	mantissa, exponent, _ := strings.Cut(strings.ToLower(number), "e")
	e := 0
	if exponent != "" {
		var err error
		if e, err = strconv.Atoi(exponent); err != nil || e < -maxNumber || e > maxNumber {
			return replacement
		}
	}
	if len(number) > maxNumber {
		return replacement
	}
	mantissa, negative := strings.CutPrefix(mantissa, "-")
	whole, fraction, _ := strings.Cut(mantissa, ".")
	digits := whole + fraction
	point := len(whole) + e // of the digits before the decimal point
	if point < 0 {
		digits = strings.Repeat("0", -point) + digits
		point = 0
	}
	if point > len(digits) {
		digits += strings.Repeat("0", point-len(digits))
	}
	negative = negative && strings.Trim(digits, "0") != ""
	s := strings.TrimLeft(digits[:point], "0")
	if s == "" {
		s = "0"
	}
	if decimals := digits[point:]; decimals != "" {
		s += "." + decimals
	}
	if negative {
		s = "-" + s
	}
	return s
}

// parseDate reads YYYY-MM-DD, a date that exists. 0001-01-01 is not ok, as it is no
// date to Go.
func parseDate(s string) (time.Time, bool) {
	t, err := time.Parse(time.DateOnly, s)
	if err != nil || t.Year() == 0 || t.IsZero() {
		return time.Time{}, false
	}
	return t, true
}

// Jumio's times have milliseconds and a Z. A second of 60 is a leap second.
var clockPattern = regexp.MustCompile(`^T([01]\d|2[0-3]):([0-5]\d)(?::([0-5]\d|60)(\.\d+)?)?(?:Z|([+-])(0\d|1[0-5]):?([0-5]\d))$`)

// parseTime reads YYYY-MM-DDThh:mm[:ss[.fraction]] with Z or an offset below 16 hours,
// of at most 64 bytes, rounded to microseconds as Postgres does.
func parseTime(s string) (time.Time, bool) {
	if len(s) <= len(time.DateOnly) || len(s) > 64 {
		return time.Time{}, false
	}
	day, err := time.Parse(time.DateOnly, s[:len(time.DateOnly)])
	m := clockPattern.FindStringSubmatch(s[len(time.DateOnly):])
	if err != nil || day.Year() == 0 || m == nil {
		return time.Time{}, false
	}
	of := func(digits string, unit time.Duration) time.Duration {
		d, _ := strconv.ParseInt(digits, 10, 64)
		return time.Duration(d * int64(unit))
	}
	fraction, _ := strconv.ParseFloat("0"+m[4], 64)
	part := time.Duration(math.RoundToEven(fraction*1e6) * float64(time.Microsecond))
	offset := of(m[6], time.Hour) + of(m[7], time.Minute)
	if m[5] == "-" {
		offset = -offset
	}
	t := day.Add(of(m[1], time.Hour) + of(m[2], time.Minute) + of(m[3], time.Second) + part - offset)
	return t, !t.IsZero()
}
