package workflow

import "testing"

func TestFinalStatus(t *testing.T) {
	for status, want := range map[string][2]bool{
		StatusProcessed:          {true, true},
		StatusSessionExpired:     {true, true},
		StatusTokenExpired:       {true, true},
		StatusInitiated:          {false, true},
		StatusAcquisitionStarted: {false, true},
		StatusAcquired:           {false, true},
		"":                       {false, false},
		"processed":              {false, false},
		"WIPED":                  {false, false},
	} {
		if final, known := FinalStatus(status); [2]bool{final, known} != want {
			t.Errorf("%q: got %v, %v, want %v", status, final, known, want)
		}
	}
}
