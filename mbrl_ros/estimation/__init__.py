"""State estimation: filters from measurements to states."""
