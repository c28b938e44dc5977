package receiving

// Waiting is how many callbacks wait for a writer.
func Waiting(s *Store) int {
	s.ingest.mu.Lock()
	defer s.ingest.mu.Unlock()
	return len(s.ingest.waiting)
}
