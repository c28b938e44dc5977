package store

// Waiting is how many callbacks wait for a writer.
func (s *Store) Waiting() int {
	s.ingest.mu.Lock()
	defer s.ingest.mu.Unlock()
	return len(s.ingest.waiting)
}
