"""The lesson format, its player and its checker; course/ holds the lessons."""
