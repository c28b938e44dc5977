package callback

import "testing"

func BenchmarkDecode(b *testing.B) {
	for name, body := range map[string]string{"JSON": guideExample, "form": guideForm(dotted)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(body)))
			for b.Loop() {
				if _, err := Decode([]byte(body)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
